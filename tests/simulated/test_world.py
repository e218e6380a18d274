"""The simulated world: what a run returns and raises, and its seed."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.simulated.services import asked
from tofu_aio import testing
from tofu_aio.testing import World


def test_the_engine_runs_in_it() -> None:
    for seed in range(20):
        assert testing.run(asked(), seed=seed) == b"ping"


def test_a_result_an_error_and_a_cancellation_come_out() -> None:
    async def main() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        testing.run(main())

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        testing.run(cancelled())


def test_an_exception_in_a_callback_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        testing.run(main())
    assert isinstance(caught.value.exceptions[0], ValueError)


def test_tasks_that_are_left_are_cancelled() -> None:
    ended = []

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    async def main() -> None:
        main.task = asyncio.create_task(background())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    testing.run(main())
    assert ended == [True]


def test_a_world_runs_once() -> None:
    async def main() -> None: ...

    world = World()
    world.run(main())
    with pytest.raises(RuntimeError, match="a world can run only once"):
        world.run(main())


def test_random_is_seeded_and_restored_afterwards() -> None:
    async def main() -> float:
        return random.random()

    random.seed(1)
    expected = random.random()
    random.seed(1)
    one, other, different = (testing.run(main(), seed=seed) for seed in (5, 5, 6))
    assert one == other != different
    assert random.random() == expected


def test_watchers_are_called_after_each_turn_and_may_end_the_run() -> None:
    async def main() -> None:
        await asyncio.sleep(10)

    world = World()

    def too_late() -> None:
        assert world.time < 5, "it is too late"

    world.watch(too_late)
    with pytest.raises(AssertionError, match="it is too late"):
        world.run(main())


def test_a_failure_is_reported_with_its_seed() -> None:
    async def program(world: World) -> None:
        world.note("program", "runs")
        assert world.seed < 7, "seven is too much"

    with pytest.raises(AssertionError, match="seven is too much") as caught:
        testing.simulate(program, seeds=range(100))
    (note,) = caught.value.__notes__
    assert note.startswith("seed 7 failed after these events:")
    assert "program      runs" in note

"""The simulated world: its time, and how it reports failures."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.simulated.services import asked
from tofu_aio import testing
from tofu_aio.testing import Deadlock, World

# --- time -------------------------------------------------------------------------------------


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert testing.run(main()) == pytest.approx(3000, abs=0.001)
    assert time.monotonic() - began < 60


def test_timers_come_in_their_order_and_on_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        order: list[tuple[int, float]] = []
        for seconds in (3, 1, 2):
            loop.call_later(seconds, lambda s=seconds: order.append((s, round(loop.time(), 3))))
        await asyncio.sleep(5)
        assert order == [(1, 1.0), (2, 2.0), (3, 3.0)]

    testing.run(main())


def test_who_waits_for_nothing_is_told_where() -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.create_task(forgotten(), name="the forgetful")

    with pytest.raises(Deadlock) as caught:
        testing.run(main())
    text = str(caught.value)
    assert text.startswith("nothing can happen any more")
    assert "main waits for the task the forgetful" in text
    assert "the forgetful waits for a future that nothing completes" in text
    assert "forgotten" in text
    assert __file__ in text


def test_who_waits_for_several_is_told_for_which() -> None:
    async def main() -> None:
        await asyncio.gather(asyncio.create_task(asyncio.Event().wait(), name="the patient"))

    with pytest.raises(Deadlock, match="main waits for the tasks the patient"):
        testing.run(main())


def test_a_run_that_never_ends_is_ended() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="the run has not ended within 100 s of virtual time"):
        World(time_limit=100).run(main())


def test_a_program_that_spins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    monkeypatch.setattr("tofu_aio.testing.kernel._SPIN", 1000)
    with pytest.raises(Deadlock, match="the program has spun for 1000 turns"):
        testing.run(main())


def test_who_spins_until_something_arrives_sees_it_arrive() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < 0.01:  # noqa: ASYNC110
            await asyncio.sleep(0)

    testing.run(main())


# --- what a run is ----------------------------------------------------------------------------


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


def test_what_a_callback_raises_fails_the_run() -> None:
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


def test_chance_is_the_seed_s_and_given_back_afterwards() -> None:
    async def main() -> float:
        return random.random()

    random.seed(1)
    expected = random.random()
    random.seed(1)
    one, other, different = (testing.run(main(), seed=seed) for seed in (5, 5, 6))
    assert one == other != different
    assert random.random() == expected


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="a simulated world has no threads"):
        testing.run(main())


def test_watchers_look_after_each_turn_and_may_end_the_run() -> None:
    async def main() -> None:
        await asyncio.sleep(10)

    world = World()

    def too_late() -> None:
        assert world.time < 5, "it is too late"

    world.watch(too_late)
    with pytest.raises(AssertionError, match="it is too late"):
        world.run(main())


def test_a_program_that_fails_with_one_seed_is_told_with_it() -> None:
    async def program(world: World) -> None:
        world.note("program", "runs")
        assert world.seed < 7, "seven is too much"

    with pytest.raises(AssertionError, match="seven is too much") as caught:
        testing.simulate(program, seeds=range(100))
    (note,) = caught.value.__notes__
    assert note.startswith("seed 7 failed after these events:")
    assert "program      runs" in note

"""The error of a run that cannot end."""

from __future__ import annotations

import asyncio

import pytest

from tofu_aio import testing
from tofu_aio.testing import Deadlock


def test_a_deadlock_names_each_task_and_where_it_waits() -> None:
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


def test_a_deadlock_names_the_tasks_that_are_gathered() -> None:
    async def main() -> None:
        await asyncio.gather(asyncio.create_task(asyncio.Event().wait(), name="the patient"))

    with pytest.raises(Deadlock, match="main waits for the tasks the patient"):
        testing.run(main())

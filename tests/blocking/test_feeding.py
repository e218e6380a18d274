"""Items that a thread hands to a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tofu_aio import blocking
from tofu_aio.blocking.feeding import Feeding


async def all_of(items: AsyncIterator[object]) -> list[object]:
    """The items, each of which takes some turns of the loop."""
    found = []
    async for item in items:
        for _ in range(10):
            await asyncio.sleep(0)
        found.append(item)
    return found


def test_no_item_is_lost_while_the_coroutine_is_busy(engine: blocking.Engine) -> None:
    feeding = Feeding(engine._thread, range(20))
    items = feeding.items()
    assert feeding.run(lambda: all_of(items)) == list(range(20))


def test_several_coroutines_take_items_one_after_another(engine: blocking.Engine) -> None:
    feeding = Feeding(engine._thread, range(3))
    items = feeding.items()

    async def take() -> object:
        return await anext(items)

    assert [feeding.run(take) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StopAsyncIteration):
        feeding.run(take)

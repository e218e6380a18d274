"""Slots: who waits gets one in order, and none is lost to who has given up."""

from __future__ import annotations

import asyncio

import pytest

from tests.messaging.peers import turns
from tofu_aio.service.slots import Slots


async def test_slots_are_given_in_order_of_arrival() -> None:
    slots = Slots(1)
    await slots.acquire()
    order: list[int] = []

    async def worker(number: int) -> None:
        await slots.acquire()
        order.append(number)
        slots.release()

    tasks = [asyncio.create_task(worker(number)) for number in range(5)]
    await turns(2)
    slots.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert slots.free == 1


async def test_who_gives_up_waiting_takes_none() -> None:
    slots = Slots(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await turns(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    slots.release()
    assert slots.free == 1


async def test_who_is_cancelled_while_given_one_gives_it_back() -> None:
    slots = Slots(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await turns(1)
    slots.release()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert slots.free == 1


async def test_who_comes_between_a_cancellation_and_its_turn_is_not_forgotten() -> None:
    slots = Slots(1)
    await slots.acquire()
    gives_up = asyncio.create_task(slots.acquire())
    await turns(1)
    gives_up.cancel()  # its turn comes later
    slots.release()
    async with asyncio.timeout(5):
        await slots.acquire()
    slots.release()
    await asyncio.wait([gives_up])
    assert slots.free == 1


@pytest.mark.parametrize("count", [2, 50])
async def test_many_that_give_up_leave_all_slots(count: int) -> None:
    slots = Slots(2)
    await slots.acquire()
    await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(count)]
    await turns(1)
    for task in waiting[::2]:
        task.cancel()
    for _ in range(2 + count // 2):
        slots.release()
        await turns(2)
    await asyncio.wait(waiting)
    assert slots.free == 2

"""What ``listen`` returns: awaited or entered, once, and by whatever takes a coroutine.

What it has in common with what ``connect`` returns is in ``test_connecting.py``.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import tofu_aio as tofu

WHERE = "tcp://127.0.0.1:0"


def is_open(listener: tofu.Listener) -> bool:
    """Whether clients can connect."""
    return not listener._forgotten


async def test_entered_it_is_closed_at_the_end(group: tofu.ChannelGroup) -> None:
    async with group.listen(WHERE) as listener:
        assert is_open(listener)
        serving = asyncio.create_task(listener.serve(lambda channel: channel.aclose()))
        async with group.connect(listener.address):
            pass
    assert not is_open(listener)
    await asyncio.wait([serving])


async def test_awaited_it_stays_open(group: tofu.ChannelGroup) -> None:
    listener = await group.listen(WHERE)
    assert is_open(listener)
    await listener.aclose()
    async with await group.listen(WHERE) as listener:
        assert is_open(listener)
    assert not is_open(listener)


async def test_a_block_that_raises_closes_it(group: tofu.ChannelGroup) -> None:
    with pytest.raises(ZeroDivisionError):
        async with group.listen(WHERE) as listener:
            raise ZeroDivisionError
    assert not is_open(listener)


async def test_whatever_takes_a_coroutine_takes_it(group: tofu.ChannelGroup) -> None:
    async with AsyncExitStack() as stack:
        first = await asyncio.create_task(group.listen(WHERE))
        second, third = await asyncio.gather(group.listen(WHERE), group.listen(WHERE))
        fourth = await asyncio.wait_for(group.listen(WHERE), 20)
        fifth = await stack.enter_async_context(group.listen(WHERE))
        listeners = [first, second, third, fourth, fifth]
        for listener in listeners:
            stack.push_async_callback(listener.aclose)
        assert len({str(listener.address) for listener in listeners}) == 5


async def test_nothing_is_checked_or_done_before(group: tofu.ChannelGroup) -> None:
    unknown: Any = {"nonsense": 1}
    with pytest.raises(tofu.InvalidAddress):
        await group.listen("nonsense")
    with pytest.raises(TypeError, match=r"listen\(\) got an unexpected keyword argument 'nonsens"):
        async with group.listen(WHERE, **unknown):
            pass
    listening = group.listen(WHERE)
    listening.close()
    assert not group._members.values(), "closed before it began"


async def enter(listening: tofu.Listening) -> None:
    async with listening:
        pass


async def just_await(listening: tofu.Listening) -> None:
    await listening


@pytest.mark.parametrize("again", [just_await, enter])
async def test_it_makes_one_listener(
    group: tofu.ChannelGroup, again: Callable[[tofu.Listening], Awaitable[None]]
) -> None:
    listening = group.listen(WHERE)
    async with listening:
        pass
    with pytest.raises(RuntimeError, match=r"makes one listener only: call listen\(\) again"):
        await again(listening)


async def test_who_forgets_to_await_it_is_told_to(group: tofu.ChannelGroup) -> None:
    listening: Any = group.listen(WHERE)
    with pytest.raises(AttributeError, match=r"'address': the listener does not exist yet: await"):
        print(listening.address)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del listening
        gc.collect()
    (warning,) = caught
    assert str(warning.message).startswith("coroutine 'ChannelGroup.listen' was never awaited")


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_moment_it_leaves_nothing(
    group: tofu.ChannelGroup, turns: int
) -> None:
    """The conftest looks for descriptors."""
    task = asyncio.create_task(group.listen("tcp://localhost:0"))
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        await asyncio.wait([task])
        assert task.cancelled()
    else:
        await task.result().aclose()
    assert not group._members.values()

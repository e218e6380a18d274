"""Nobody starves, however greedy another is: counted in messages, not in time."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any, Final

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import turns, until
from tofu_aio import OpCode

CHANNELS: Final = 12
POOL: Final = 4
EACH: Final = 6
"""Messages of each polite channel; the greedy one has all in one chunk, and more than the others
together."""


class LastComeFirstServed(deque[Any]):
    """The queue of a pool, wrongly."""

    popleft = deque.pop


async def serving_order(client: tofu.ChannelGroup, both_ends: Connect) -> list[int]:
    """Whose messages are served, in order; number 0 is the greedy channel."""
    async with (
        tofu.Engine(POOL) as engine,
        engine.create_group() as server,
        AsyncExitStack() as stack,
    ):
        pairs = [
            await stack.enter_async_context(both_ends(client, server)) for _ in range(CHANNELS)
        ]
        for number, pair in enumerate(pairs):
            for _ in range(EACH if number else 2 * EACH * CHANNELS):
                pair.client.post(tofu.Message(OpCode.SIGNAL, bytes([number])))
        await until(lambda: engine.statistics().waiting == CHANNELS, "all channels to wait")
        arrived: deque[tofu.Message] = deque()
        receiving = [asyncio.create_task(collect(pair.server, arrived)) for pair in pairs]
        order: list[int] = []
        while len(order) < EACH * CHANNELS:
            await until(lambda: arrived, "the next message")
            # Several permits come back in one turn: who is first in the queue gets one of them.
            while arrived:
                with arrived.popleft() as message:
                    order.append(message.body[0])
            await turns(3)
        for task in receiving:
            task.cancel()
        await asyncio.wait(receiving)
        arrived.clear()
    return order


async def collect(channel: tofu.Channel, arrived: deque[tofu.Message]) -> None:
    """Keep what arrives; it holds its permit until it is served."""
    while True:
        arrived.append(await channel.receive())


def longest_wait(order: list[int]) -> int:
    """The most messages served between two of one channel, or before its first, or after its last
    if there was one more to come."""
    longest = 0
    for number in range(CHANNELS):
        served = [-1, *(at for at, who in enumerate(order) if who == number)]
        if len(served) - 1 < EACH:
            served.append(len(order))
        longest = max(longest, *(b - a - 1 for a, b in pairwise(served)))
    return longest


async def test_no_channel_waits_for_more_messages_than_there_are_permits_and_other_channels(
    group: tofu.ChannelGroup, both_ends: Connect
) -> None:
    order = await serving_order(group, both_ends)
    assert longest_wait(order) <= POOL + CHANNELS - 1, order
    # Those permits that were taken before anybody waited are its own; from then on all are equal.
    assert order.count(0) <= EACH + POOL + 1, order


async def test_where_the_last_comes_first_somebody_starves(
    group: tofu.ChannelGroup, both_ends: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measure above can fail."""
    init = tofu.protocol.pool.Pool.__init__

    def wrong(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self.waiters = LastComeFirstServed()

    monkeypatch.setattr(tofu.protocol.pool.Pool, "__init__", wrong)
    order = await serving_order(group, both_ends)
    assert longest_wait(order) > POOL + CHANNELS - 1, order

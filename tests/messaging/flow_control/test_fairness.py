"""No channel starves, however greedy another is: counted in messages, not in time."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any, Final

import pytest

import tofu_aio as tofu
from tests.benchmarks.fairness import LastComeFirstServed
from tests.messaging.conftest import Connect
from tests.messaging.peers import turns, until
from tofu_aio import OpCode
from tofu_aio.protocol.account import LENT

CHANNELS: Final = 12
POOL: Final = 4
EACH: Final = 6
"""Messages of each polite channel; the greedy one has all in one chunk, and more than the others
together."""


async def serving_order(
    client: tofu.ChannelGroup, both_ends: Connect, *, keeping: int
) -> list[int]:
    """The channels whose messages are served, in order; number 0 is the greedy channel.

    ``keeping`` messages of each channel are kept. With one on the reserve, and all that can be
    lent, a channel has nothing but its turn in the queue.
    """
    async with (
        tofu.Engine(POOL) as engine,
        engine.create_group() as server,
        AsyncExitStack() as stack,
    ):
        pairs = [
            await stack.enter_async_context(both_ends(client, server)) for _ in range(CHANNELS)
        ]
        for number, pair in enumerate(pairs):
            for _ in range(keeping + (EACH if number else 2 * EACH * CHANNELS)):
                pair.client.post(tofu.Message(OpCode.SIGNAL, bytes([number])))
        await until(lambda: waiting(engine) == CHANNELS, "all channels to wait")
        kept = [await pair.server.receive() for pair in pairs for _ in range(keeping)]
        arrived: deque[tofu.Message] = deque()
        receiving = [asyncio.create_task(collect(pair.server, arrived)) for pair in pairs]
        order: list[int] = []
        while len(order) < EACH * CHANNELS:
            await until(lambda: arrived, "the next message")
            # Several permits come back in one turn, and the first in the queue gets one of them.
            while arrived:
                with arrived.popleft() as message:
                    order.append(message.body[0])
            await turns(3)
        for task in receiving:
            task.cancel()
        await asyncio.wait(receiving)
        arrived.clear()
        kept.clear()
    return order


def waiting(engine: tofu.Engine) -> int:
    """Channels that wait, for others or for their own messages."""
    now = engine.statistics()
    return now.waiting + now.over_share


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


@pytest.mark.parametrize("keeping", [0, LENT + 1])
async def test_no_channel_waits_for_more_messages_than_there_are_permits_and_other_channels(
    group: tofu.ChannelGroup, both_ends: Connect, keeping: int
) -> None:
    """By its turn in the queue alone; or than there are messages alive, if it keeps none."""
    order = await serving_order(group, both_ends, keeping=keeping)
    alive = POOL + (CHANNELS if keeping else (LENT + 1) * CHANNELS)
    assert longest_wait(order) <= alive - 1, order
    # The permits taken before any channel waited are its own, with its reserve and what it
    # was lent, unless these are kept; from then on all are equal.
    assert order.count(0) <= EACH + POOL + 1 + (0 if keeping else LENT + 1), order


async def test_where_the_last_comes_first_somebody_starves(
    group: tofu.ChannelGroup, both_ends: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measure above can fail."""
    init = tofu.protocol.pool.Pool.__init__

    def wrong(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self.waiters = LastComeFirstServed()

    monkeypatch.setattr(tofu.protocol.pool.Pool, "__init__", wrong)
    order = await serving_order(group, both_ends, keeping=LENT + 1)
    assert longest_wait(order) > POOL + CHANNELS - 1, order

"""``Channel.receive_nowait``: what has arrived already, without waiting."""

from __future__ import annotations

import asyncio

import pytest
from anyio import WouldBlock

import tofu_aio as tofu
from tests.messaging.peers import Pair, settled, until
from tofu_aio.protocol.lifecycle import State

SIGNALS = 20


async def sent(pair: Pair, count: int) -> None:
    """Signals with their numbers, of which as many arrive as may."""
    for number in range(count):
        await pair.client.signal(b"%d" % number)
    await settled(*pair)


def waiting(channel: tofu.Channel) -> list[int]:
    """All that has arrived, released."""
    numbers = []
    while True:
        try:
            with channel.receive_nowait() as message:
                numbers.append(int(message.body))
        except WouldBlock:
            return numbers


async def test_all_that_has_arrived_is_taken_in_order(pair: Pair) -> None:
    with pytest.raises(WouldBlock):
        pair.server.receive_nowait()
    await sent(pair, 5)
    with await pair.server.receive() as first:
        assert first.body == b"0"
    assert waiting(pair.server) == [1, 2, 3, 4]
    with pytest.raises(WouldBlock):
        pair.server.receive_nowait()


async def test_more_comes_once_there_is_room(group: tofu.ChannelGroup) -> None:
    """A pool of few messages: the channel is suspended, and read again when some were released."""
    async with tofu.Engine(pool_messages=4) as small, small.create_group() as receivers:
        listener = await receivers.listen("tcp://127.0.0.1:0")
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        await sent(Pair(client, server), SIGNALS)
        assert server.statistics().suspended
        numbers: list[int] = []
        while len(numbers) < SIGNALS:
            with await server.receive() as message:
                numbers.append(int(message.body))
            numbers += waiting(server)
        assert numbers == list(range(SIGNALS))
        await asyncio.gather(client.aclose(), server.aclose())
        await listener.aclose()


async def test_a_task_that_waits_goes_on_waiting(pair: Pair) -> None:
    receiving = asyncio.create_task(pair.server.receive())
    await asyncio.sleep(0)
    with pytest.raises(WouldBlock):
        pair.server.receive_nowait()
    await pair.client.signal(b"x")
    with await receiving as message:
        assert message.body == b"x"


async def test_only_receive_tells_the_end(pair: Pair) -> None:
    await pair.client.signal(b"last")
    closing = asyncio.create_task(pair.client.aclose())
    await until(lambda: pair.server.state is State.BYE_HEARD)
    with pair.server.receive_nowait() as message:
        assert message.body == b"last"
    with pytest.raises(WouldBlock):
        pair.server.receive_nowait()
    with pytest.raises(tofu.ChannelEnded):
        await pair.server.receive()
    await closing
    with pytest.raises(WouldBlock):
        pair.server.receive_nowait()


async def test_nothing_of_a_closed_channel_is_received(pair: Pair) -> None:
    await pair.client.signal(b"too late")
    await settled(*pair)
    await asyncio.gather(pair.server.aclose(), pair.client.aclose())
    with pytest.raises(WouldBlock):
        pair.server.receive_nowait()

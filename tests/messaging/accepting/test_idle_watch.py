"""Channels without messages are closed, if the listener has an idle_timeout."""

from __future__ import annotations

import asyncio

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    admission_of,
    connection_of,
    flooded,
    frame,
    met,
    takes_some,
    until,
)
from tests.systems import skip_where_writes_are_whole
from tofu_aio import State
from tofu_aio.messaging.accepting.idle_watch import IdleWatch

NEVER = 3600.0
OFTEN = 0.01


@pytest.mark.parametrize("peer_beats", [True, False], ids=["beats", "silent"])
async def test_a_channel_without_messages_is_closed(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str, peer_beats: bool
) -> None:
    """Heartbeats do not count as messages."""
    async with await group.listen(
        transport_address, idle_timeout=0.1, heartbeat=OFTEN if peer_beats else None
    ) as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        with pytest.raises(
            tofu.ChannelClosed, match=r"no message was sent or received for 0\.1 s \(idle"
        ):
            await server.receive()
        with pytest.raises(tofu.ChannelEnded):
            await client.receive()
        await asyncio.gather(client.aclose(), server.aclose())


async def test_only_messages_count(group: tofu.ChannelGroup) -> None:
    """A channel is closed after a number of checks in a row that find no message."""
    watch = IdleWatch(NEVER)
    async with met(group) as (peer, channel):
        connection = connection_of(channel)
        watch.add(connection)

        def looks(count: int) -> None:
            for _ in range(count):
                watch._look()

        looks(4)
        await peer.send(frame(body=b"one"))
        await until(lambda: connection.received == 2)
        looks(4)
        await channel.signal(b"and one back")
        await until(lambda: not connection.queue.nbytes)
        looks(4)
        assert channel.state is State.OPEN
        await peer.send(frame(body=bytes(1000))[:500])
        await until(lambda: connection.decoder.held == 500)
        looks(1)
        assert channel.state is State.CLOSED, "half a message is none"
        assert watch._timer is None
        channel.abort()


async def test_a_channel_that_waits_for_room_is_not_idle(group: tofu.ChannelGroup) -> None:
    watch = IdleWatch(NEVER)
    async with met(group) as (peer, channel):
        await peer.send(frame(body=b"x") * 20)
        await until(lambda: channel.statistics().suspended)
        watch.add(connection_of(channel))
        for _ in range(20):
            watch._look()
        assert channel.state is State.OPEN
        watch.discard(connection_of(channel))
        channel.abort()


async def test_a_peer_that_sends_and_never_reads_is_idle(
    group: tofu.ChannelGroup,
) -> None:
    """This side waits for the peer to receive data, so the silence is the peer's."""
    watch = IdleWatch(NEVER)
    async with met(group) as (peer, channel):
        tasks = await flooded(peer, channel)
        watch.add(connection_of(channel))
        for _ in range(5):
            watch._look()
        assert channel.state is State.CLOSED
        assert watch._timer is None
        for task in tasks:
            task.cancel()
        channel.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_peer_that_receives_queued_data_is_not_idle(group: tofu.ChannelGroup) -> None:
    skip_where_writes_are_whole()
    watch = IdleWatch(NEVER)
    async with met(group) as (peer, channel):
        for _ in range(1000):
            channel.post(tofu.Message(tofu.OpCode.SIGNAL, bytes(60_000)))
        watch.add(connection_of(channel))
        watch._look()
        for _ in range(6):
            await takes_some(peer, channel)
            watch._look()
        assert channel.state is State.OPEN
        watch.discard(connection_of(channel))
        channel.abort()


async def test_idle_channels_of_a_listener_that_was_closed_are_closed_all_the_same(
    group: tofu.ChannelGroup,
) -> None:
    listener = await group.listen("tcp://127.0.0.1:0", idle_timeout=0.05)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    await listener.aclose()
    with pytest.raises(tofu.ChannelEnded):
        await client.receive()
    await asyncio.gather(client.aclose(), server.aclose())
    watch = admission_of(listener)._idle
    assert watch is not None
    assert watch._timer is None

"""Silent connections do not keep their slots for ever: at every stage they are evicted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    RawPeer,
    admission_of,
    connection_of,
    flooded,
    frame,
    hello,
    met,
    settled,
    takes_some,
    turns,
    until,
)
from tests.systems import skip_where_writes_are_whole
from tofu_aio import OpCode, State
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.messaging.accepting import eviction as giving_way
from tofu_aio.messaging.accepting.eviction import evict_silent
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.messaging.connection import connection as connection_module
from tofu_aio.messaging.connection.heartbeat import silence

NEVER = 3600.0
OFTEN = 0.01
"""Seconds between heartbeats, so that silence is noticed soon."""


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


@contextlib.asynccontextmanager
async def serving(group: tofu.ChannelGroup, address: str, decide: Any = None, **options: Any):
    """An echo server, until the end of the block."""
    async with await group.listen(address, **options) as listener:
        task = asyncio.create_task(listener.serve(echo, decide=decide))
        try:
            yield listener
        finally:
            await listener.aclose()
            await task


async def works(group: tofu.ChannelGroup, listener: tofu.Listener) -> None:
    """A good client is accepted and gets an answer."""
    async with group.connect(listener.address, heartbeat=None) as channel:
        with await channel.request(b"ping") as response:
            assert response.body == b"ping"


def connections(group: tofu.ChannelGroup) -> list[connection_module.Connection]:
    """The connections of a group's channels, in the order of their arrival."""
    return [connection_of(m) for m in group._members.values() if isinstance(m, tofu.Channel)]


async def gone_silent(connection: connection_module.Connection) -> None:
    await until(lambda: silence(connection), "for the peer to be silent for too long")


# --- who was refused and stays -----------------------------------------------------------------


async def refuse(channel: tofu.Channel) -> None:
    if channel.hello.headers.get("Token") != "right":
        raise tofu.Rejected("who are you?")


async def test_refused_peers_that_stay_keep_nobody_out(
    engine: tofu.Engine,
    group: tofu.ChannelGroup,
    transport_address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They take no slots, and their own number is limited."""
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", NEVER)
    monkeypatch.setattr(admission_module, "PENDING_CHANNELS", 2)
    monkeypatch.setattr(admission_module, "LEAVING_CHANNELS", 3)
    async with (
        engine.create_group() as server,
        serving(server, transport_address, refuse, max_channels=2) as listener,
    ):
        crowd = [await RawPeer.connect(listener.address) for _ in range(10)]
        for peer in crowd:
            await peer.send(hello())
            assert (await peer.message()).status is tofu.Status.NOT_ALLOWED
            await peer.send(b"and yet I stay")
        for peer in crowd[:-3]:
            assert await peer.end() == b""
        assert len(admission_of(listener)._lingering) == 3
        async with group.connect(listener.address, headers={"Token": "right"}) as channel:
            assert (await channel.request(b"?")).body == b"?"
        for peer in crowd:
            peer.close()


# --- silent channels ---------------------------------------------------------------------------


async def test_a_full_listener_evicts_silent_channels_for_waiting_connections(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """The one that was silent longest is closed, with a Bye as usual."""
    async with (
        engine.create_group() as server,
        serving(server, transport_address, max_channels=2, heartbeat=OFTEN) as listener,
    ):
        first = await RawPeer.introduced(listener.address)
        second = await RawPeer.introduced(listener.address)
        one, other = connections(server)
        await gone_silent(one)
        await gone_silent(other)
        assert (one.decoder.state, other.decoder.state) == (State.OPEN, State.OPEN), "none waits"
        await second.send(frame(body=b"here I am"))
        assert (await second.message()).body == b"here I am"
        await until(lambda: silence(one) and not silence(other))
        await works(group, listener)
        assert (await first.message()).op_code is OpCode.BYE_REQUEST
        assert await first.end() == b""
        first.close()
        second.close()


async def test_a_waiting_connection_gets_a_slot_once_a_channel_was_silent_too_long(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """The search for one is repeated while a connection waits."""
    async with (
        engine.create_group() as server,
        serving(server, "tcp://127.0.0.1:0", max_channels=1, heartbeat=0.2) as listener,
    ):
        with await RawPeer.introduced(listener.address) as silent:
            admission = admission_of(listener)
            working = asyncio.create_task(works(group, listener))
            await until(lambda: admission._look_again or working.done())
            await working
            assert (await silent.message()).op_code is OpCode.BYE_REQUEST


async def test_no_more_give_way_than_wait(group: tofu.ChannelGroup, engine: tofu.Engine) -> None:
    async with (
        engine.create_group() as server,
        serving(server, "tcp://127.0.0.1:0", max_channels=3, heartbeat=NEVER) as listener,
    ):
        crowd = [await RawPeer.introduced(listener.address) for _ in range(3)]
        channels = connections(server)
        for connection in channels:
            looks(connection, 7)
            assert silence(connection)
        waiting = [await RawPeer.connect(listener.address) for _ in range(2)]
        for peer in waiting:
            await peer.send(hello())
        for peer in waiting:
            await peer.message()
        ended = [connection.end is not None for connection in channels]
        for peer in (*crowd, *waiting):
            peer.close()
    assert sum(ended) == 2


async def test_one_that_keeps_its_place_a_while_holds_up_one_that_waits_and_no_other(
    group: tofu.ChannelGroup, engine: tofu.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    async with (
        engine.create_group() as server,
        serving(server, "tcp://127.0.0.1:0", max_channels=2, heartbeat=NEVER) as listener,
    ):
        crowd = [await RawPeer.introduced(listener.address) for _ in range(2)]
        deaf, silent = connections(server)
        for _ in range(300):
            deaf.queue.enqueue(OpCode.SIGNAL, body=bytes(60_000))
        await until(lambda: deaf.queue.paused)
        looks(deaf, 9)
        looks(silent, 7)
        assert silence(deaf) > silence(silent) > 0
        waiting = [await RawPeer.connect(listener.address) for _ in range(2)]
        await waiting[0].send(hello())
        await until(lambda: deaf.end is not None)
        assert silent.end is None
        assert len(admission_of(listener)._waiting) == 1
        await waiting[1].send(hello())
        assert (await waiting[0].message()).op_code is OpCode.HELLO_RESPONSE
        assert silent.end is not None
        assert len(admission_of(listener)._waiting) == 1
        deaf.closing.abort(tofu.ChannelClosed("it was deaf for too long"))
        assert (await waiting[1].message()).op_code is OpCode.HELLO_RESPONSE
        for peer in (*crowd, *waiting):
            peer.close()


async def test_a_peer_with_heartbeats_is_never_evicted(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """Its heartbeats show that it exists."""
    async with (
        engine.create_group() as server,
        serving(server, transport_address, max_channels=1, heartbeat=OFTEN) as listener,
        group.connect(listener.address) as channel,
    ):
        (connection,) = connections(server)
        before = connection.decoder.offset
        await until(lambda: connection.decoder.offset >= before + 16 * 20)  # twenty heartbeats
        with pytest.raises(tofu.ConnectFailed):
            await group.connect(listener.address, timeout=10 * OFTEN)
        assert (await channel.request(b"?")).body == b"?"


async def test_where_the_listener_wants_no_heartbeats_nobody_gives_way(
    group: tofu.ChannelGroup, engine: tofu.Engine, transport_address: str
) -> None:
    """Without heartbeats silence means nothing."""
    async with (
        engine.create_group() as server,
        serving(server, transport_address, max_channels=1, heartbeat=None) as listener,
    ):
        with await RawPeer.introduced(listener.address) as peer:
            with pytest.raises(tofu.ConnectFailed):
                await group.connect(listener.address, timeout=10 * OFTEN)
            assert admission_of(listener)._look_again is None
            await peer.send(frame(body=b"?"))
            assert (await peer.message()).body == b"?"


async def test_a_silence_of_our_own_is_none(group: tofu.ChannelGroup, engine: tofu.Engine) -> None:
    """A channel that is not read for lack of permits may have data."""
    async with met(group, heartbeat=OFTEN) as (peer, channel):
        connection = connection_of(channel)
        await gone_silent(connection)
        await peer.send(frame(body=b"x") * 20)
        await until(lambda: connection.suspended)
        await until(lambda: not silence(connection))
        looked = connection.beat_arrived
        assert looked == -1
        assert evict_silent([connection], 1) == []
        channel.abort()


def looks(connection: connection_module.Connection, count: int) -> None:
    """Check for a sign of life that often. The heartbeat interval is longer than any test."""
    assert connection.heartbeat is not None
    wheel = connection.gate.heartbeats._wheels[connection.heartbeat]
    for _ in range(count):
        wheel._look(connection, 0.0, 0.0)


@contextlib.asynccontextmanager
async def watched(group: tofu.ChannelGroup, headers: bytes = b""):
    """A raw peer and its channel, which was checked once already."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=NEVER) as listener:
        accepting = asyncio.create_task(listener.accept())
        with await RawPeer.connect(listener.address) as peer:
            line = f"~connect_to:{listener.address.to_header()}\r\n".encode()
            await peer.send(frame(OpCode.HELLO_REQUEST, headers=line + headers))
            channel = await accepting
            await peer.message()
            looks(connection_of(channel), 1)
            yield peer, channel
            channel.abort()


async def test_a_peer_that_receives_data_is_not_silent(group: tofu.ChannelGroup) -> None:
    async with watched(group) as (_, channel):
        connection = connection_of(channel)
        for _ in range(10):
            await channel.signal(b"news")
            await until(lambda: not connection.queue.nbytes)
            looks(connection, 1)
            assert not connection.beat_silent
        looks(connection, 6)
        assert silence(connection)


async def test_a_peer_is_silent_once_it_stops_receiving_queued_data(
    group: tofu.ChannelGroup,
) -> None:
    """Even while more and more data is queued for it."""
    skip_where_writes_are_whole()
    async with watched(group) as (peer, channel):
        connection = connection_of(channel)
        for _ in range(1000):
            channel.post(tofu.Message(OpCode.SIGNAL, bytes(60_000)))
        for _ in range(4):
            await takes_some(peer, channel)
            looks(connection, 1)
            assert not connection.beat_silent
        await settled(channel)
        looks(connection, 1)
        for _ in range(6):
            channel.post(tofu.Message(OpCode.SIGNAL, b"more"))
            looks(connection, 1)
        assert silence(connection)


async def test_a_peer_that_waits_for_an_answer_is_not_silent(
    group: tofu.ChannelGroup,
) -> None:
    async with watched(group) as (peer, channel):
        connection = connection_of(channel)
        await peer.send(frame(body=b"take your time"))
        await until(lambda: connection.received == 2)
        looks(connection, 10)
        assert not silence(connection), "unread"
        with await channel.receive():
            looks(connection, 10)
            assert not silence(connection), "worked on"
        looks(connection, 6)
        assert silence(connection)


@pytest.mark.parametrize("takes_part", [True, False], ids=["beats", "plain"])
async def test_a_peer_that_sends_and_never_reads_is_evicted(
    group: tofu.ChannelGroup, takes_part: bool
) -> None:
    """It is not lost: its heartbeats cannot be read."""
    headers = b"~heartbeat:3600000\r\n" if takes_part else b""
    async with watched(group, headers) as (peer, channel):
        connection = connection_of(channel)
        assert bool(connection.decoder.heartbeats) is takes_part
        tasks = await flooded(peer, channel)
        looks(connection, 1)
        assert not silence(connection)
        looks(connection, 10)
        assert channel.state is State.OPEN
        assert silence(connection)
        assert evict_silent([connection], 1) == [connection]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_channel_that_has_ended_does_not_give_way_again(group: tofu.ChannelGroup) -> None:
    async with watched(group) as (_, channel):
        connection = connection_of(channel)
        looks(connection, 6)
        assert silence(connection)
        connection.lose(tofu.PeerDisconnected("gone"))
        assert evict_silent([connection], 1) == []


async def one_that_takes_nothing(
    server: tofu.ChannelGroup, listener: tofu.Listener
) -> tuple[RawPeer, connection_module.Connection]:
    """A peer to which more is posted than it and the kernel receive, and its connection."""
    peer = await RawPeer.introduced(listener.address)
    channel = next(m for m in reversed(server._members.values()) if isinstance(m, tofu.Channel))
    for _ in range(1000):
        channel.post(tofu.Message(OpCode.SIGNAL, bytes(60_000)))
    await settled(channel)
    return peer, connection_of(channel)


async def test_an_evicted_channel_keeps_its_slot_until_all_was_sent(
    group: tofu.ChannelGroup, engine: tofu.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    async with (
        engine.create_group() as server,
        serving(server, "tcp://127.0.0.1:0", max_channels=1, heartbeat=NEVER) as listener,
    ):
        first, connection = await one_that_takes_nothing(server, listener)
        looks(connection, 8)
        assert silence(connection)
        with await RawPeer.connect(listener.address) as second:
            await second.send(hello())
            await until(lambda: connection.end is not None, "for the first to give way")
            await turns(50)
            admission = admission_of(listener)
            assert connection in admission._open
            assert not admission._undecided
            first.close()
            assert (await second.message()).op_code is OpCode.HELLO_RESPONSE


async def test_another_one_gives_way_if_the_first_has_not_left_in_time(
    group: tofu.ChannelGroup, engine: tofu.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that receives its last bytes slowly keeps only its own slot."""
    monkeypatch.setattr(closing_module, "LINGER", NEVER)
    async with (
        engine.create_group() as server,
        serving(server, "tcp://127.0.0.1:0", max_channels=2, heartbeat=NEVER) as listener,
    ):
        slow, connection = await one_that_takes_nothing(server, listener)
        dead = await RawPeer.introduced(listener.address)
        other = connections(server)[1]
        looks(connection, 12)
        looks(other, 8)
        with await RawPeer.connect(listener.address) as third:
            await third.send(hello())
            await until(lambda: connection.end is not None, "for the first to give way")
            await turns(50)
            for _ in range(5):
                admission_of(listener)._look()
            assert other.end is None, "one waits, and one was told"
            monkeypatch.setattr(admission_module, "EVICTION_TIME", 0.0)
            admission_of(listener)._look()
            assert other.end is not None
            assert (await third.message()).op_code is OpCode.HELLO_RESPONSE
        for peer in (slow, dead):
            peer.close()


async def test_what_came_before_is_received_and_then_why_it_was_closed(
    group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "silence", lambda _: 60.0)
    caplog.set_level(logging.INFO, "tofu_aio")
    async with met(group, heartbeat=OFTEN) as (peer, channel):
        await peer.send(frame(body=b"last words"))
        await until(lambda: channel.statistics().received == 2)
        asking = asyncio.create_task(channel.request(b"?"))
        await until(lambda: connection_of(channel).queue.sent == 2)
        assert evict_silent([connection_of(channel)], 5) == [connection_of(channel)]
        with await channel.receive() as message:
            assert message.body == b"last words"
        for wait in (channel.receive, channel.signal, lambda: asking):
            with pytest.raises(
                tofu.ChannelClosed, match=r"silent for .*, and other connections wait"
            ):
                await wait()
        assert channel.state is State.CLOSED
        assert f"channel {channel.number} is evicted" in caplog.text
        assert (await peer.message()).op_code is OpCode.REQUEST
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        await channel.aclose()


@pytest.mark.parametrize("said", ["nothing", "bye", "our bye"])
async def test_whatever_was_said_of_closing_it_ends(group: tofu.ChannelGroup, said: str) -> None:
    async with met(group) as (peer, channel):
        if said == "bye":
            await peer.send(frame(OpCode.BYE_REQUEST, b"", b"~eof:1\r\n"))
            await until(lambda: channel.state is State.BYE_HEARD)
        elif said == "our bye":
            await channel.send_eof()
        connection_of(channel).closing.dismiss(tofu.ChannelClosed("away"))
        answer = await peer.message()
        assert answer.op_code is (OpCode.BYE_RESPONSE if said == "bye" else OpCode.BYE_REQUEST)
        assert channel.state is State.CLOSED
        connection_of(channel).closing.dismiss(tofu.ChannelClosed("again"))
        assert "again" not in str(channel.end)
        if said != "our bye":
            assert isinstance(channel.end, tofu.ChannelClosed)
            assert "away" in str(channel.end)
    await connection_of(channel).closing.done

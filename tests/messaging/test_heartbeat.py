"""Heartbeats: who is alive is not lost, however silent; who is lost is not waited for.

Where a test must know what a tick does, it ticks by hand, on channels whose own timer is an hour
away. Where time must really pass, heartbeats that were heard are the clock.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import closing_both
from tests.messaging.peers import (
    Pair,
    RawPeer,
    RawServer,
    connection_of,
    frame,
    settled,
    transport_of,
    turns,
    until,
)
from tofu_aio import Message, OpCode, State, Status
from tofu_aio.messaging.connection import Connection
from tofu_aio.messaging.heartbeat import Heartbeat, heartbeat_header, interval_asked
from tofu_aio.protocol.text_headers import TextHeaders

HOUR = 3600.0
BEAT = frame(OpCode.SIGNAL, message_id=0)


def heartbeat_of(channel: tofu.Channel) -> Heartbeat:
    heartbeat = connection_of(channel)._heartbeat
    assert heartbeat is not None
    return heartbeat


def tick(channel: tofu.Channel) -> None:
    """What the timer would do, now."""
    heartbeat = heartbeat_of(channel)
    heartbeat.stop()
    heartbeat._tick()


class Ear:
    """Counts the heartbeats that a channel hears."""

    def __init__(self, channel: tofu.Channel) -> None:
        self.heard = 0
        decoder = connection_of(channel).decoder
        assert decoder.on_heartbeat is not None
        self._told = decoder.on_heartbeat
        decoder.on_heartbeat = self._hear

    def _hear(self) -> None:
        self.heard += 1
        self._told()

    async def hears(self, count: int) -> None:
        """Wait for so many more."""
        enough = self.heard + count
        await until(lambda: self.heard >= enough, f"for {count} heartbeats")


@asynccontextmanager
async def beating(
    group: tofu.ChannelGroup, *, client: float | None, server: float | None = None
) -> AsyncIterator[Pair]:
    """A channel whose ends ask for heartbeats as they are told."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=server) as listener:
        ends = await asyncio.gather(
            group.connect(listener.address, heartbeat=client), listener.accept()
        )
    async with closing_both(*ends) as pair:
        if client or server:
            await until(lambda: all(heartbeat_of(end)._timer for end in pair))
            await settled(*pair)  # the first ones have been heard
        yield pair


@pytest.fixture
async def slow_pair(group: tofu.ChannelGroup) -> AsyncIterator[Pair]:
    """A channel with heartbeats, whose timers do not run out in a test."""
    async with beating(group, client=HOUR) as pair:
        yield pair


@asynccontextmanager
async def with_raw_client(
    group: tofu.ChannelGroup, heartbeat: float = HOUR
) -> AsyncIterator[tuple[RawPeer, tofu.Channel]]:
    """A channel to a peer by hand, that has answered the offer of heartbeats with one."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=heartbeat) as listener:
        peer, channel = await asyncio.gather(
            RawPeer.introduced(listener.address), listener.accept()
        )
    with peer:
        await peer.send(BEAT)
        assert (await peer.message()).message_id == 0
        try:
            yield peer, channel
        finally:
            channel.abort()


# --- agreeing --------------------------------------------------------------------------------


ASKED = [(0.01, None), (None, 0.01), (0.01, 0.01), (0.01, HOUR), (HOUR, 0.01)]


@pytest.mark.parametrize(("client", "server"), ASKED)
async def test_it_is_enough_that_one_end_asks_and_the_shorter_interval_counts(
    group: tofu.ChannelGroup, engine: tofu.Engine, client: float | None, server: float | None
) -> None:
    async with beating(group, client=client, server=server) as pair:
        before = [end.statistics() for end in pair]
        ears = [Ear(end) for end in pair]
        for ear in ears:
            await ear.hears(10)  # three times what would be deadly silence
        assert [end.state for end in pair] == [State.OPEN, State.OPEN]
        assert [end.statistics() for end in pair] == before, "it is no message"
        assert not any(end._mailbox.items for end in pair)
        assert engine.statistics().pool_free == engine.statistics().pool_size
        await pair.client.signal(b"the first message")
        with await pair.server.receive() as message:
            assert message.body == b"the first message"


async def test_who_does_not_ask_has_none(group: tofu.ChannelGroup) -> None:
    async with beating(group, client=None) as pair:
        for end in pair:
            assert connection_of(end)._heartbeat is None
            assert "~heartbeat" not in end.hello.headers


async def test_a_plain_client_is_sent_none_and_may_be_silent(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=0.01) as listener:
        plain = await RawPeer.connect(listener.address)
        await plain.send(frame(OpCode.HELLO_REQUEST, headers=b"~connect_to:tcp|x|1\r\n"))
        channel = await listener.accept()
        assert (await plain.message()).headers["~heartbeat"] == "10"
    with plain:
        async with beating(group, client=0.01) as clock:
            await Ear(clock.client).hears(10)
        await plain.send(frame(OpCode.BYE_REQUEST, message_id=2))
        assert (await plain.message()).op_code is OpCode.BYE_RESPONSE
    await channel.aclose()


async def test_a_plain_server_is_sent_none_and_may_be_silent(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address, heartbeat=0.01))
    with await raw_server.accept() as plain:
        hello = await plain.message()
        assert hello.headers["~heartbeat"] == "10"
        await plain.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
        channel = await connecting
        async with beating(group, client=0.01) as clock:
            await Ear(clock.client).hears(10)
        await plain.send(frame(OpCode.BYE_REQUEST, message_id=2))
        assert (await plain.message()).op_code is OpCode.BYE_RESPONSE
    await channel.aclose()


async def test_a_heartbeat_that_nobody_asked_for_breaks_the_protocol(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    peer, channel = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
    with peer:
        await peer.send(BEAT)
        with pytest.raises(tofu.ProtocolViolation, match="SIGNAL has message id 0"):
            await channel.receive()
    await channel.aclose()


@pytest.mark.parametrize("seconds", [0, -1, 0.001, 86_401, math.nan, math.inf])
async def test_an_interval_that_cannot_be_kept_is_refused(
    group: tofu.ChannelGroup, engine: tofu.Engine, seconds: float
) -> None:
    with pytest.raises(ValueError, match=r"give 0\.01 to 86400 seconds"):
        await group.listen("tcp://127.0.0.1:0", heartbeat=seconds)
    with pytest.raises(ValueError, match=r"give 0\.01 to 86400 seconds"):
        await group.connect("tcp://127.0.0.1:1", heartbeat=seconds)
    with pytest.raises(ValueError, match=r"give 0\.01 to 86400 seconds"):
        await anext(group.reconnecting("tcp://127.0.0.1:1", heartbeat=seconds))
    assert engine.statistics().channels == 0


@pytest.mark.parametrize(
    ("headers", "interval"),
    [
        ({}, None),
        ({"~heartbeat": "5000"}, 5.0),
        ([("a", "b"), ("~heartbeat", "10"), ("c", "d")], 0.01),
        ({" ~heartbeat ": " 86400000 "}, 86400.0),
        ([("~heartbeat", "20"), ("~heartbeat", "30")], 0.02),
        ({"~heartbeat": "9"}, None),
        ({"~heartbeat": "0"}, None),
        ({"~heartbeat": "-5000"}, None),
        ({"~heartbeat": "5e3"}, None),
        ({"~heartbeat": "86400001"}, None),
        ({"~heartbeat": "9" * 60000}, None),
        ({"~heartbeat": "\u0665"}, None),
        ({"x~heartbeat": "5000"}, None),
        ({"a": "~heartbeat:5000"}, None),
    ],
)
def test_what_a_hello_asks_for(
    headers: dict[str, str] | list[tuple[str, str]], interval: float | None
) -> None:
    assert interval_asked(TextHeaders(headers).encode()) == interval


@pytest.mark.parametrize(
    "value", ["v\n~heartbeat:5000", "v\r~heartbeat:5000", "v\r\n~heartbeat:5000\r", "~heartbeat:5"]
)
def test_what_a_value_only_looks_like_is_no_ask(value: str) -> None:
    headers = TextHeaders.decode(f"a:{value}\r\n".encode())
    assert interval_asked(headers.encode()) is None


@pytest.mark.parametrize("seconds", [0.01, 0.0149, 1, 2.5, 86400])
def test_what_is_asked_for_is_understood(seconds: float) -> None:
    understood = interval_asked(TextHeaders(heartbeat_header(seconds)).encode())
    assert understood == pytest.approx(seconds, abs=0.0005)


# --- sending ---------------------------------------------------------------------------------


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Who sends a heartbeat, each time."""
    told: list[Connection] = []
    send = Connection.beat

    def beat(connection: Connection) -> None:
        told.append(connection)
        send(connection)

    monkeypatch.setattr(Connection, "beat", beat)
    return told


async def test_one_is_sent_when_nothing_else_was_for_an_interval(
    slow_pair: Pair, beats: list[Connection]
) -> None:
    channel = slow_pair.client
    beats.clear()
    tick(channel)
    assert not beats, "half an interval after the first one"
    for count in (1, 2):
        tick(channel)
        assert len(beats) == count
        tick(channel)
        assert len(beats) == count
    await channel.signal()
    tick(channel)
    await turns(2)  # the message is written
    assert len(beats) == 2
    connection_of(channel).decoder.offset += 1  # the peer shows a sign of life
    tick(channel)
    assert len(beats) == 3, "the message may have been sent just after the tick before"


async def test_none_is_sent_while_messages_are(slow_pair: Pair, beats: list[Connection]) -> None:
    channel = slow_pair.client
    beats.clear()
    for _ in range(5):
        await channel.signal()
        await turns(2)
        tick(channel)
    assert not beats


async def test_none_waits_behind_what_cannot_be_sent(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (_, channel):
        connection = connection_of(channel)
        while not connection.write_paused:
            channel.post(Message(OpCode.SIGNAL, bytes(60000)))
            await turns(2)
        queued = connection.queued_bytes
        for _ in range(20):
            connection.decoder.offset += 1  # the peer shows signs of life
            tick(channel)
        assert connection.queued_bytes == queued


async def test_it_is_not_among_the_messages_that_come_back(
    group: tofu.ChannelGroup, slow_pair: Pair
) -> None:
    connection = connection_of(slow_pair.client)
    connection.write_paused = True
    connection.beat()
    slow_pair.client.post(Message(OpCode.SIGNAL, b"one"))
    connection.beat()
    slow_pair.client.post(Message(OpCode.SIGNAL, b"two"))
    assert [message.body for message in connection.unsent()] == [b"one", b"two"]
    connection.write_paused = False


async def test_it_answers_nothing(slow_pair: Pair) -> None:
    """A chunk of requests and a heartbeat is answered as the requests alone would be."""
    client, server = slow_pair
    requests = asyncio.gather(*(client.request(b"%d" % n) for n in range(3)))
    tick(client)
    tick(client)
    for _ in range(3):
        with await server.receive() as message:
            await server.reply(message, message.body)
    assert [response.body for response in await requests] == [b"0", b"1", b"2"]


# --- hearing ---------------------------------------------------------------------------------


async def test_a_peer_that_falls_silent_is_lost(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group, 0.01) as (peer, channel):
        with pytest.raises(
            tofu.PeerDisconnected,
            match=r"nothing came from the peer for 0\.03 s, and a heartbeat was due every 0\.01 s",
        ):
            await channel.receive()
        assert channel.state is State.CLOSED
        assert await peer.resets()
        with pytest.raises(tofu.PeerDisconnected, match="nothing came"):
            await channel.signal()


async def test_requests_under_way_end_with_the_peer(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group, 0.01) as (_, channel):
        with pytest.raises(tofu.PeerDisconnected, match="nothing came"):
            await channel.request(b"is anybody there?")


async def test_what_came_before_the_silence_is_received(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group, 0.01) as (peer, channel):
        await peer.send(frame(body=b"last words"))
        await until(lambda: channel.state is State.CLOSED)
        with await channel.receive() as message:
            assert message.body == b"last words"
        with pytest.raises(tofu.PeerDisconnected, match="nothing came"):
            await channel.receive()


async def test_it_takes_three_intervals_at_least(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (peer, channel):
        decoder = connection_of(channel).decoder
        for _ in range(2):
            tick(channel)  # this one sees that something has come since the last
            for _ in range(5):
                tick(channel)
            assert channel.state is State.OPEN
            before = decoder.offset
            await peer.send(BEAT)
            await until(lambda before=before: decoder.offset > before)  # type: ignore[misc]
        for _ in range(6):
            tick(channel)
        assert channel.state is State.OPEN
        tick(channel)
        assert channel.state is State.CLOSED


async def test_a_byte_is_a_sign_of_life(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (peer, channel):
        connection = connection_of(channel)
        await peer.send(frame(body=bytes(1000))[:17])
        for held in range(17, 40):
            await until(lambda held=held: connection.decoder.held == held)  # type: ignore[misc]
            tick(channel)
            await peer.send(b"\0")
        assert channel.state is State.OPEN


async def test_who_is_not_read_is_not_lost(group: tofu.ChannelGroup, engine: tofu.Engine) -> None:
    """With the pool exhausted the silence is ours; it begins anew when we read again."""
    async with with_raw_client(group) as (peer, channel):
        for number in range(10):
            await peer.send(frame(message_id=number + 1))
        await until(lambda: engine.statistics().waiting)
        for _ in range(20):
            tick(channel)
        assert channel.state is State.OPEN
        for _ in range(10):
            (await channel.receive()).release()
        await until(lambda: transport_of(channel).is_reading())
        tick(channel)
        for _ in range(5):
            tick(channel)
        assert channel.state is State.OPEN
        tick(channel)
        assert channel.state is State.CLOSED


async def test_who_does_not_receive_is_not_lost(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    """The peer's application is busy and its pool is exhausted, but its heart beats."""
    async with tofu.Engine(pool_messages=2) as busy, busy.create_group() as there:
        async with await there.listen("tcp://127.0.0.1:0", heartbeat=0.01) as listener:
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
        async with closing_both(client, server):
            for _ in range(4):
                await client.signal()
            await until(lambda: busy.statistics().waiting)
            await Ear(client).hears(10)
            assert (client.state, server.state) == (State.OPEN, State.OPEN)
            assert busy.statistics().waiting == 1


async def test_a_loop_that_was_held_up_does_not_blame_the_peer(group: tofu.ChannelGroup) -> None:
    async with beating(group, client=0.02) as pair:
        ears = [Ear(end) for end in pair]
        for _ in range(3):
            time.sleep(0.1)  # noqa: ASYNC251 - a program that does so is what this is about
            for ear in ears:
                await ear.hears(1)
        assert [end.state for end in pair] == [State.OPEN, State.OPEN]


# --- ending ----------------------------------------------------------------------------------


async def test_who_said_bye_sends_none_and_still_hears(group: tofu.ChannelGroup) -> None:
    async with beating(group, client=0.01) as pair:
        client, server = pair
        await client.send_eof()
        await until(lambda: server.state is State.BYE_HEARD)
        await Ear(client).hears(10)
        assert (client.state, server.state) == (State.BYE_SENT, State.BYE_HEARD)
        await server.signal(b"a last word")
        with await client.receive() as message:
            assert message.body == b"a last word"


async def test_a_peer_lost_after_our_half_close_is_lost(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (peer, channel):
        await channel.send_eof()
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        for _ in range(7):
            tick(channel)
        with pytest.raises(tofu.PeerDisconnected, match="nothing came"):
            await channel.receive()


@pytest.mark.parametrize("end", ["close", "abort", "lost", "bye"])
async def test_its_timer_ends_with_the_channel(
    group: tofu.ChannelGroup, slow_pair: Pair, end: str
) -> None:
    client, server = slow_pair
    if end == "close":
        await asyncio.gather(client.aclose(), server.aclose())
    elif end == "abort":
        client.abort()
    elif end == "lost":
        for _ in range(7):
            tick(client)
    else:
        await client.send_eof()
        with pytest.raises(tofu.ChannelEnded):
            await server.receive()
        await server.aclose()
    await until(lambda: not group._members)
    for channel in slow_pair:
        timer = heartbeat_of(channel)._timer
        assert timer is not None
        assert timer.cancelled()


# --- as messages -----------------------------------------------------------------------------


def opening(op_code: OpCode, name: str, address: tofu.Address, heartbeat: int) -> Message:
    return Message(op_code, headers={name: address.to_header(), "~heartbeat": str(heartbeat)})


async def test_at_the_altitude_of_messages_a_header_asks(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    """And a peer that is lost is a notification, like any."""
    group.post(opening(OpCode.HELLO_REQUEST, "~connect_to", raw_server.address, 10))
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id) + BEAT)
        answer = await group.receive()
        assert answer.op_code is OpCode.HELLO_RESPONSE
        lost, closed = await group.receive(), await group.receive()
        assert (lost.status, closed.status) == (Status.PEER_DISCONNECTED, Status.CHANNEL_CLOSED)
        beat = await peer.message()
        assert (beat.op_code, beat.message_id) == (OpCode.SIGNAL, 0)


@pytest.mark.parametrize("server_asks", [True, False])
async def test_a_posted_listener_takes_part(
    group: tofu.ChannelGroup, listener: tofu.Listener, server_asks: bool
) -> None:
    where = tofu.parse_address("tcp://127.0.0.1:0")
    group.post(Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": where.to_header()}))
    address = tofu.parse_address((await group.receive()).headers["~listen_on"])
    connecting = asyncio.create_task(
        group.connect(address, heartbeat=None if server_asks else 0.01)
    )
    hello = await group.receive()
    answer = Message(OpCode.HELLO_RESPONSE, headers={"~heartbeat": "10"} if server_asks else None)
    answer.channel_number = hello.channel_number
    group.post(answer)
    channel = await connecting
    await Ear(channel).hears(10)
    assert channel.state is State.OPEN
    assert not group._mailbox.items
    channel.abort()


# --- processes -------------------------------------------------------------------------------

PROCESS = """
import asyncio, sys
import tofu_aio as tofu

async def main():
    async with tofu.Engine(pool_messages=2) as engine, engine.create_group() as group:
        channel = await group.connect(sys.argv[1], heartbeat=0.25)
        await asyncio.get_running_loop().create_future()  # it never receives

tofu.run(main())
"""


@asynccontextmanager
async def process_of(
    group: tofu.ChannelGroup,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, tofu.Channel]]:
    """A living peer in a process of its own, that is busy and never receives."""
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, str(listener.address)
        )
        try:
            channel = await listener.accept()
            yield process, channel
            channel.abort()
        finally:
            process.kill()
            await process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
@pytest.mark.parametrize("after", ["continued", "killed"])
async def test_a_process_that_is_stopped_is_lost_and_a_busy_one_is_not(
    group: tofu.ChannelGroup, after: str
) -> None:
    import signal

    async with process_of(group) as (process, channel):
        for _ in range(4):
            await channel.signal()  # more than its pool can take
        await Ear(channel).hears(6)
        assert channel.state is State.OPEN
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(tofu.PeerDisconnected, match=r"nothing came from the peer for 0\.75 s"):
            await channel.receive()
        if after == "continued":
            process.send_signal(signal.SIGCONT)

"""Heartbeats: a living peer is not lost, however silent, and a lost one is not waited for.

A test that must know the effect of a look drives the engine's clock, on channels with heartbeats an
hour apart. Where time must really pass, received heartbeats are the clock.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import closing_both
from tests.messaging.peers import (
    Pair,
    RawPeer,
    RawServer,
    connection_of,
    frame,
    held_up,
    settled,
    transport_of,
    turns,
    until,
)
from tofu_aio import Message, OpCode, State, Status
from tofu_aio.messaging.connection import agreements
from tofu_aio.messaging.connection.agreements import NO_EXTENSION
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.connection.heartbeat import Heartbeats, Slot, Wheel
from tofu_aio.messaging.connection.send_queue import SendQueue
from tofu_aio.messaging.limits import HEARTBEAT_MIN
from tofu_aio.messaging.threads.owner_loop import Call, OwnerLoop

HOUR = 3600.0
BEAT = frame(OpCode.SIGNAL, message_id=0)


def heartbeats_of(channel: tofu.Channel) -> Heartbeats:
    return connection_of(channel).gate.heartbeats


def wheel_of(channel: tofu.Channel) -> Wheel:
    """What has its heartbeats sent."""
    interval = connection_of(channel).heartbeat
    assert interval is not None
    return heartbeats_of(channel)._wheels[interval]


def slot_of(channel: tofu.Channel) -> Slot:
    """Those that are looked at together with it."""
    wheel = wheel_of(channel)
    return wheel.slots[channel.number % wheel._size]


def takes_part(channel: tofu.Channel) -> bool:
    """Whether its peer is known to send heartbeats, and to want some."""
    return connection_of(channel).decoder.heartbeats is True


def time_passes(channel: tofu.Channel, at: float) -> None:
    """Set the engine's clock to a time, and have the timer run out if it is due then."""
    wheel, owner_loop = wheel_of(channel), connection_of(channel).gate.owner_loop
    owner_loop.time = lambda: at  # type: ignore[method-assign]
    assert wheel._timer is not None
    if wheel._at <= at:
        wheel._timer.cancel()
        wheel._tick()


def look(channel: tofu.Channel) -> None:
    """Let time pass until the channel has been looked at once more."""
    wheel, slot = wheel_of(channel), slot_of(channel)
    before = slot.looked
    while slot.looked == before:
        time_passes(channel, wheel._at)


async def written(*channels: tofu.Channel) -> None:
    """Wait until the system has taken what was sent, which completion ports report later."""
    await until(lambda: not any(connection_of(channel).queue.nbytes for channel in channels))


def of_messages(channel: tofu.Channel) -> tofu.ChannelStatistics:
    """Its statistics without bytes in flight, which may be a heartbeat."""
    return replace(channel.statistics(), queued_bytes=0, triggers=tofu.Triggers(0))


class Ear:
    """Counts the heartbeats that a channel receives, while its peer sends nothing else."""

    def __init__(self, channel: tofu.Channel) -> None:
        self._decoder = connection_of(channel).decoder

    async def hears(self, count: int) -> None:
        """Wait for a number of further heartbeats."""
        enough = self._decoder.offset + count * len(BEAT)
        await until(lambda: self._decoder.offset >= enough, f"for {count} heartbeats")


@pytest.fixture(autouse=True)
def clients_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for many gets them: no test waits for seconds."""
    monkeypatch.setattr(agreements, "CLIENT_HEARTBEAT_MIN", HEARTBEAT_MIN)


@asynccontextmanager
async def beating(
    group: tofu.ChannelGroup, *, client: float | None, server: float | None = None
) -> AsyncIterator[Pair]:
    """A channel whose ends ask for these heartbeats."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=server) as listener:
        ends = await asyncio.gather(
            group.connect(listener.address, heartbeat=client), listener.accept()
        )
    async with closing_both(*ends) as pair:
        if client or server:
            await until(lambda: all(takes_part(end) for end in pair))
        yield pair


@pytest.fixture
async def slow_pair(group: tofu.ChannelGroup) -> AsyncIterator[Pair]:
    """A channel with heartbeats, whose timer does not run out in a test."""
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
        await until(lambda: takes_part(channel))
        try:
            yield peer, channel
        finally:
            channel.abort()


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The connections that send a heartbeat, each time."""
    senders: list[Connection] = []
    send = SendQueue.send_heartbeat

    def send_heartbeat(queue: SendQueue) -> None:
        assert isinstance(queue._owner, Connection)
        senders.append(queue._owner)
        send(queue)

    monkeypatch.setattr(SendQueue, "send_heartbeat", send_heartbeat)
    return senders


# --- agreeing --------------------------------------------------------------------------------


ASKED = [(0.01, None), (None, 0.01), (0.01, 0.01), (0.01, HOUR), (HOUR, 0.01)]


@pytest.mark.parametrize(("client", "server"), ASKED)
async def test_it_is_enough_that_one_end_asks_and_the_shorter_interval_counts(
    group: tofu.ChannelGroup, engine: tofu.Engine, client: float | None, server: float | None
) -> None:
    async with beating(group, client=client, server=server) as pair:
        before = [of_messages(end) for end in pair]
        ears = [Ear(end) for end in pair]
        for ear in ears:
            await ear.hears(10)  # three times what would be deadly silence
        assert [end.state for end in pair] == [State.OPEN, State.OPEN]
        assert [of_messages(end) for end in pair] == before, "it is no message"
        assert not any(end._mailbox.items for end in pair)
        assert engine.statistics().pool_free == engine.statistics().pool_size
        await pair.client.signal(b"the first message")
        with await pair.server.receive() as message:
            assert message.body == b"the first message"


async def test_who_does_not_ask_has_none(group: tofu.ChannelGroup) -> None:
    async with beating(group, client=None) as pair:
        for end in pair:
            assert connection_of(end).heartbeat is None
            assert "~heartbeat" not in end.hello.headers
        assert not heartbeats_of(pair.client)._wheels


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


@pytest.mark.parametrize("heartbeat", [0.01, HOUR])
async def test_a_server_that_sends_our_hello_back_has_agreed_to_nothing(
    group: tofu.ChannelGroup, raw_server: RawServer, heartbeat: float
) -> None:
    """A Zig server may make the answer of the Hello, whose headers stay in it."""
    connecting = asyncio.create_task(group.connect(raw_server.address, heartbeat=heartbeat))
    with await raw_server.accept() as peer:
        hello = await peer.message()
        assert {"~connect_to", "~heartbeat", "~supports"} <= set(hello.headers)
        back = hello.headers.encode()
        await peer.send(frame(OpCode.HELLO_RESPONSE, b"", back, message_id=hello.message_id))
        channel = await connecting
        assert connection_of(channel).peer_supports == NO_EXTENSION
        if heartbeat == HOUR:
            for _ in range(20):
                look(channel)
        else:
            async with beating(group, client=0.01) as clock:
                await Ear(clock.client).hears(10)
        assert channel.state is State.OPEN
        await peer.send(frame(OpCode.BYE_REQUEST, message_id=2))
        assert (await peer.message()).op_code is OpCode.BYE_RESPONSE, "no heartbeat was before it"
    await channel.aclose()


async def test_an_application_that_sends_the_hello_back_is_known_by_its_heartbeats(
    group: tofu.ChannelGroup,
) -> None:
    """Its answer does not say it, but its engine does."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=None) as listener:
        connecting = asyncio.create_task(group.connect(listener.address, heartbeat=0.01))
        server = await listener.receive_hello()
        server.accept(headers=server.hello.headers)
        client = await connecting
    async with closing_both(client, server):
        await until(lambda: takes_part(client))
        await Ear(client).hears(4)
        await Ear(server).hears(4)


async def test_a_heartbeat_that_nobody_asked_for_breaks_the_protocol(
    group: tofu.ChannelGroup,
) -> None:
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=None) as listener:
        peer, channel = await asyncio.gather(
            RawPeer.introduced(listener.address), listener.accept()
        )
    with peer:
        await peer.send(BEAT)
        with pytest.raises(tofu.ProtocolViolation, match="SIGNAL has the message id 0"):
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


@pytest.mark.parametrize("word", ["", "fast", "AUTO"])
async def test_a_word_that_is_no_interval_is_refused(group: tofu.ChannelGroup, word: str) -> None:
    with pytest.raises(TypeError, match=f"^heartbeat is '{word}', not a number: give .* seconds"):
        await group.listen("tcp://127.0.0.1:0", heartbeat=word)  # type: ignore[arg-type]


# --- by default ------------------------------------------------------------------------------


def asked_in(hello: Message) -> tuple[str | None, str | None]:
    """The agreement in a Hello or an answer."""
    return hello.headers.get("~heartbeat"), hello.headers.get("~supports")


async def test_by_default_tcp_has_them_and_unix_sockets_have_none(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        ends = await asyncio.gather(group.connect(listener.address), listener.accept())
    tcp = transport_address.startswith("tcp")
    async with closing_both(*ends) as pair:
        for end in pair:
            assert asked_in(end.hello) == ("20000" if tcp else None, "cancel,whole,drain")
            assert connection_of(end).heartbeat == (20.0 if tcp else None)
            assert connection_of(end).decoder.heartbeats is (True if tcp else None)


async def test_unix_sockets_have_them_if_they_are_wanted(
    group: tofu.ChannelGroup, socket_path: str
) -> None:
    async with await group.listen(f"uds://{socket_path}", heartbeat=7) as listener:
        ends = await asyncio.gather(group.connect(listener.address), listener.accept())
    async with closing_both(*ends) as pair:
        assert asked_in(pair.client.hello) == ("7000", "cancel,whole,drain")
        assert [connection_of(end).heartbeat for end in pair] == [7.0, 7.0]


async def test_of_two_defaults_neither_has_to_begin(
    group: tofu.ChannelGroup, beats: list[Connection]
) -> None:
    """Both know by the Hellos: a channel that lives for a second costs no heartbeat."""
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        ends = await asyncio.gather(group.connect(listener.address), listener.accept())
    async with closing_both(*ends) as pair:
        await settled(*pair)
        assert not beats
        for end in pair:
            look(end)
            look(end)
        assert set(beats) == {connection_of(end) for end in pair}


# --- one timer for all -----------------------------------------------------------------------


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many timers of the wheels have not run out."""
    handles: list[asyncio.TimerHandle] = []
    begin = OwnerLoop.call_later

    def call_later(owner_loop: OwnerLoop, seconds: float, call: Call) -> asyncio.TimerHandle:
        handle = begin(owner_loop, seconds, call)
        if isinstance(getattr(call, "__self__", None), Wheel):
            handles.append(handle)
        return handle

    monkeypatch.setattr(OwnerLoop, "call_later", call_later)
    return lambda: sum(not handle.cancelled() for handle in handles)


async def test_many_channels_have_one_timer_and_none_have_none(
    group: tofu.ChannelGroup, timers: Callable[[], int]
) -> None:
    loop = asyncio.get_running_loop()
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])  # uvloop has another
    before = sum(not handle.cancelled() for handle in scheduled)
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=HOUR) as listener:
        pairs = [
            await asyncio.gather(group.connect(listener.address, heartbeat=None), listener.accept())
            for _ in range(40)
        ]
    ends = [end for pair in pairs for end in pair]
    assert timers() == 1
    assert sum(not handle.cancelled() for handle in scheduled) == before + bool(scheduled)
    wheel = wheel_of(ends[0])
    assert wheel._at == min(slot.due for slot in wheel.slots.values())
    assert {id(connection_of(end).heartbeat) for end in ends} == {id(wheel.interval)}
    await asyncio.gather(*(end.aclose() for end in ends))
    await until(lambda: not group._members)
    assert timers() == 0
    assert not group._gate.heartbeats._wheels


async def test_each_interval_has_a_timer(
    group: tofu.ChannelGroup, timers: Callable[[], int]
) -> None:
    async with beating(group, client=HOUR) as first, beating(group, client=2 * HOUR) as second:
        assert timers() == 2
        assert wheel_of(first.client) is wheel_of(first.server)
        assert wheel_of(first.client) is not wheel_of(second.client)


async def test_a_look_is_at_a_part_of_many_channels(
    group: tofu.ChannelGroup, beats: list[Connection]
) -> None:
    """So the heartbeats of all are not sent in one turn; nor after the loop was held up."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=HOUR) as listener:
        pairs = [
            await asyncio.gather(group.connect(listener.address, heartbeat=None), listener.accept())
            for _ in range(40)
        ]
    ends = [end for pair in pairs for end in pair]
    channel = ends[0]
    wheel = wheel_of(channel)

    async def most_at_once() -> int:
        """Of the heartbeats of two intervals; and each channel sends two, at least."""
        beats.clear()
        for end in ends:
            connection_of(end).decoder.offset += 1  # a sign of life
        most, until_then = 0, wheel._at + 2 * HOUR
        while wheel._at < until_then:
            before = len(beats)
            time_passes(channel, wheel._at)
            most = max(most, len(beats) - before)
            await written(*ends)
        counts = [beats.count(connection_of(end)) for end in ends]
        assert 2 <= min(counts) <= max(counts) <= 3
        return most

    assert await most_at_once() < len(ends) // 2
    time_passes(channel, wheel._at + 10 * HOUR)
    assert len({slot.looked for slot in wheel.slots.values()}) == 1
    assert await most_at_once() < len(ends) // 2
    for end in ends:
        end.abort()


async def test_a_timer_that_runs_out_a_little_early_is_on_time(
    group: tofu.ChannelGroup, beats: list[Connection]
) -> None:
    """As uvloop's do, which count milliseconds. Else it would be set again and again until then."""
    async with with_raw_client(group) as (_, channel):
        wheel = wheel_of(channel)
        for _ in range(2):
            connection_of(channel).gate.owner_loop.time = lambda: wheel._at - 0.0005  # type: ignore[method-assign]
            assert wheel._timer is not None
            wheel._timer.cancel()
            wheel._tick()
        assert beats == [connection_of(channel)]


@pytest.mark.parametrize("early", [0.5, 0.1])
async def test_a_timer_that_runs_out_long_before_is_no_look(
    group: tofu.ChannelGroup, early: float
) -> None:
    """As on Windows, by a tick of its clock: the looks at short intervals would follow at once."""
    async with with_raw_client(group) as (_, channel):
        wheel, slot = wheel_of(channel), slot_of(channel)
        before, due = slot.looked, slot.due
        connection_of(channel).gate.owner_loop.time = lambda: due - early * HOUR / 2  # type: ignore[method-assign]
        assert wheel._timer is not None
        wheel._timer.cancel()
        wheel._tick()
        assert (slot.looked, slot.due, wheel._at) == (before, due, due)
        assert not wheel._timer.cancelled()


def test_a_slot_gives_up_whoever_leaves_it_in_any_order() -> None:
    class Link:
        beat_after = beat_before = None

    for order in permutations(range(4)):
        slot = Slot(0.0, 1.0)
        links: list[Any] = [Link() for _ in order]
        for link in links:
            slot.discard(link)
            slot.add(link)
        left = list(links)
        for index in order:
            assert list(slot) == left
            assert slot
            for _ in range(2):
                slot.discard(links[index])
            left.remove(links[index])
        assert not slot
        assert all(link.beat_after is link.beat_before is None for link in links)


# --- sending ---------------------------------------------------------------------------------


async def test_one_is_sent_when_nothing_else_was_for_an_interval(
    slow_pair: Pair, beats: list[Connection]
) -> None:
    channel = slow_pair.client

    def count() -> int:
        return beats.count(connection_of(channel))

    assert count() == 0
    for expected in (1, 2):
        look(channel)
        assert count() == expected - 1, "half an interval after the last"
        look(channel)
        assert count() == expected
        await written(channel)
    await channel.signal()
    look(channel)
    await turns(2)  # the message is written
    assert count() == 2
    connection_of(channel).decoder.offset += 1  # the peer shows a sign of life
    look(channel)
    assert count() == 3, "the message may have been sent just after the look before"


async def test_none_is_sent_while_messages_are(slow_pair: Pair, beats: list[Connection]) -> None:
    channel = slow_pair.client
    for _ in range(5):
        await channel.signal()
        await turns(2)
        look(channel)
    assert connection_of(channel) not in beats


@pytest.mark.parametrize("intervals", [0.8, 1.7, 2.4])
async def test_a_loop_whose_callbacks_take_long_sends_it_all_the_same(
    group: tofu.ChannelGroup, beats: list[Connection], intervals: float
) -> None:
    """Its timer runs out once after each, and that is the time to send."""
    async with beating(group, client=HOUR) as pair:
        wheel = wheel_of(pair.client)
        now = wheel._at
        sent_at = dict.fromkeys(map(connection_of, pair), now)
        for _ in range(8):
            now += intervals * HOUR
            beats.clear()
            time_passes(pair.client, now)
            sent_at.update(dict.fromkeys(beats, now))
            assert max(now - at for at in sent_at.values()) < 3 * HOUR, "the peer's patience"
            if intervals > 1.5:
                assert len(beats) == 2, "each time"
            for end in pair:
                connection_of(end).decoder.offset += 1  # the other shows a sign of life
            await written(*pair)


async def test_none_waits_behind_what_cannot_be_sent(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (_, channel):
        connection = connection_of(channel)
        while not connection.queue.paused:
            channel.post(Message(OpCode.SIGNAL, bytes(60000)))
            await turns(2)
        queued = connection.queue.nbytes
        for _ in range(20):
            connection.decoder.offset += 1  # the peer shows signs of life
            look(channel)
        assert connection.queue.nbytes == queued


async def test_it_is_not_among_the_messages_that_come_back(
    group: tofu.ChannelGroup, slow_pair: Pair
) -> None:
    connection = connection_of(slow_pair.client)
    connection.queue.paused = True
    connection.queue.send_heartbeat()
    slow_pair.client.post(Message(OpCode.SIGNAL, b"one"))
    connection.queue.send_heartbeat()
    slow_pair.client.post(Message(OpCode.SIGNAL, b"two"))
    assert [message.body for message in connection.queue.unsent()] == [b"one", b"two"]
    connection.queue.paused = False


async def test_it_answers_nothing(slow_pair: Pair) -> None:
    """A chunk of requests and a heartbeat is answered as the requests alone would be."""
    client, server = slow_pair
    requests = asyncio.gather(*(client.request(b"%d" % n) for n in range(3)))
    look(client)
    look(client)
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
        await peer.until_reset()
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
            look(channel)  # this one sees that something has come since the last
            for _ in range(5):
                look(channel)
            assert channel.state is State.OPEN
            before = decoder.offset
            await peer.send(BEAT)
            await until(lambda before=before: decoder.offset > before)  # type: ignore[misc]
        for _ in range(6):
            look(channel)
        assert channel.state is State.OPEN
        look(channel)
        assert channel.state is State.CLOSED


async def test_a_byte_is_a_sign_of_life(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (peer, channel):
        connection = connection_of(channel)
        await peer.send(frame(body=bytes(1000))[:17])
        for held in range(17, 40):
            await until(lambda held=held: connection.decoder.held == held)  # type: ignore[misc]
            look(channel)
            await peer.send(b"\0")
        assert channel.state is State.OPEN


async def test_who_is_not_read_is_not_lost(group: tofu.ChannelGroup, engine: tofu.Engine) -> None:
    """While the pool is exhausted the peer is not read; the deadline starts anew after that."""
    async with with_raw_client(group) as (peer, channel):
        for number in range(10):
            await peer.send(frame(message_id=number + 1))
        await until(lambda: held_up(engine))
        for _ in range(20):
            look(channel)
        assert channel.state is State.OPEN
        for _ in range(10):
            (await channel.receive()).release()
        await until(lambda: transport_of(channel).is_reading())
        look(channel)
        for _ in range(5):
            look(channel)
        assert channel.state is State.OPEN
        look(channel)
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
            await until(lambda: held_up(busy))
            await Ear(client).hears(10)
            assert (client.state, server.state) == (State.OPEN, State.OPEN)
            assert held_up(busy) == 1


async def test_a_long_sleep_of_our_own_is_one_look(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (_, channel):
        look(channel)
        for _ in range(5):
            time_passes(channel, slot_of(channel).due + 100 * HOUR)
        assert channel.state is State.OPEN
        look(channel)
        assert channel.state is State.CLOSED


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


async def test_a_peer_that_has_gone_is_sent_none(
    group: tofu.ChannelGroup, engine: tofu.Engine, beats: list[Connection]
) -> None:
    """Though the channel is not at its end before all that came has been received."""
    async with with_raw_client(group) as (peer, channel):
        await peer.send(b"".join(frame(message_id=number + 1) for number in range(7)))
        await until(lambda: held_up(engine))
        peer.half_close()
        for _ in range(2):  # a socket that is not read does not report its end
            (await channel.receive()).release()
        await until(lambda: connection_of(channel).end)
        for _ in range(4):
            look(channel)
        assert not beats


async def test_a_peer_lost_after_our_half_close_is_lost(group: tofu.ChannelGroup) -> None:
    async with with_raw_client(group) as (peer, channel):
        await channel.send_eof()
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        for _ in range(7):
            look(channel)
        with pytest.raises(tofu.PeerDisconnected, match="nothing came"):
            await channel.receive()


@pytest.mark.parametrize("end", ["close", "abort", "lost", "bye"])
async def test_its_timer_ends_with_the_channel(
    group: tofu.ChannelGroup, timers: Callable[[], int], slow_pair: Pair, end: str
) -> None:
    client, server = slow_pair
    if end == "close":
        await asyncio.gather(client.aclose(), server.aclose())
    elif end == "abort":
        client.abort()
    elif end == "lost":
        for _ in range(7):
            look(client)
    else:
        await client.send_eof()
        with pytest.raises(tofu.ChannelEnded):
            await server.receive()
        await server.aclose()
    await until(lambda: not group._members)
    assert not group._gate.heartbeats._wheels
    assert timers() == 0


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
    assert not group._posting.mailbox.items
    channel.abort()


# --- processes -------------------------------------------------------------------------------

PROCESS = """
import asyncio, sys
import tofu_aio as tofu

async def main():
    async with tofu.Engine(pool_messages=2) as engine, engine.create_group() as group:
        channel = await group.connect(sys.argv[1])
        await asyncio.get_running_loop().create_future()  # it never receives

tofu.run(main())
"""


@asynccontextmanager
async def process_of(
    group: tofu.ChannelGroup,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, tofu.Channel]]:
    """A living peer in a process of its own, that is busy and never receives."""
    async with await group.listen("tcp://127.0.0.1:0", heartbeat=0.25) as listener:
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

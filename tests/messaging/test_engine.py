"""The engine's promise: a bounded number of received messages alive, and none lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random
from sysconfig import get_config_var

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import (
    ENOUGH,
    LARGE_HELLO,
    Pair,
    RawPeer,
    RawServer,
    Watched,
    connection_of,
    frame,
    hello,
    settled,
    transport_of,
    turns,
    until,
)
from tests.messaging.posting.test_posted import listening
from tofu_aio import OpCode, State
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.messaging.connection import connection as connection_module
from tofu_aio.protocol.account import LENT
from tofu_aio.protocol.pool import Permit, Pool
from tofu_aio.transport.limits import WRITE_HIGH_WATER

CHUNK = 256 * 1024
"""What asyncio reads at once; uvloop reads less."""


@pytest.fixture
async def small() -> AsyncIterator[tofu.Engine]:
    """An engine of two permits: one channel may hold both, and a third message on its reserve."""
    async with tofu.Engine(pool_messages=2, channel_share=1) as engine:
        yield engine
    gc.collect()
    assert (engine.statistics().pool_free, engine.statistics().reserves) == (2, 0)
    assert (engine.statistics().channels, engine.statistics().waiting) == (0, 0)


@pytest.fixture
async def two(small: tofu.Engine, both_ends: Connect) -> AsyncIterator[Pair]:
    """A channel whose both ends live on two permits."""
    async with small.create_group() as group, both_ends(group) as pair:
        yield pair


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline ends a Bye: it must be prompt by itself."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 1000)


def permits_of(permit: Permit | None, pool: Pool) -> int:
    return permit.worth if permit is not None and permit.pool is pool else 0


def audit(*engines: tofu.Engine) -> None:
    """Permits and reserves in use are exactly those that messages, partial frames and queues
    hold.
    """
    objects = gc.get_objects()
    for engine in engines:
        pool = engine._gate.pool
        holders = 0
        for item in objects:
            if isinstance(item, tofu.Message):
                holders += permits_of(item._permit, pool)
            elif isinstance(item, connection_module.Connection):
                holders += sum(permits_of(permit, pool) for permit in item.queue.carried)
        assert holders == pool.size - len(pool.free) + len(pool.reserves)
        assert 0 <= len(pool.free) <= pool.size


# --- life --------------------------------------------------------------------------------------


async def test_an_engine_works_only_while_it_is_entered() -> None:
    engine = tofu.Engine()
    with pytest.raises(tofu.ShutdownStarted, match="use it inside 'async with Engine"):
        engine.create_group()
    async with engine:
        engine.create_group()
    with pytest.raises(tofu.ShutdownStarted):
        engine.create_group()
    await engine.aclose()


@pytest.mark.parametrize("turn", range(1, 5))  # before the first it has not begun
@pytest.mark.parametrize("what", ["engine", "group"])
async def test_closing_that_is_cancelled_aborts_however_far_it_has_come(
    transport_address: str, what: str, turn: int
) -> None:
    async with tofu.Engine() as engine:
        group = engine.create_group()
        _, posted = await listening(group, "tcp://127.0.0.1:0")
        listener = await group.listen(transport_address)
        accepting = asyncio.create_task(listener.accept())
        with await RawPeer.introduced(listener.address) as peer:
            await accepting
            closing = asyncio.create_task((engine if what == "engine" else group).aclose())
            await turns(turn)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await until(lambda: not engine.statistics().channels)
            for address in (posted, listener.address):
                with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
                    await RawPeer.connect(address)
            await peer.end()


@pytest.mark.parametrize("size", [0, -1])
def test_a_pool_needs_a_message(size: int) -> None:
    with pytest.raises(ValueError, match=r"pool_messages is .*: give 1 to 524344"):
        tofu.Engine(pool_messages=size)


async def test_statistics_are_a_snapshot(engine: tofu.Engine, tcp_pair: Pair) -> None:
    before = engine.statistics()
    assert (before.pool_size, before.pool_free, before.waiting) == (8, 8, 0)
    assert (before.suspensions, before.channels) == (0, 2)
    for _ in range(2):
        await tcp_pair.client.signal()
    message = await tcp_pair.server.receive()
    second = await tcp_pair.server.receive()
    assert (before.pool_free, before.reserves) == (8, 0)
    now = engine.statistics()
    assert (now.pool_free, now.reserves) == (7, 1)
    second.release()
    message.release()
    assert (engine.statistics().pool_free, engine.statistics().reserves) == (8, 0)
    assert (now.pool_free, now.reserves) == (7, 1)


async def test_closed_groups_are_not_remembered(engine: tofu.Engine) -> None:
    for _ in range(10):
        async with engine.create_group():
            pass
    assert not engine._groups


async def test_closing_with_everything_in_flight(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that wait, floods, half frames, strangers, openings: all end, and nothing is left."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.2)
    async with tofu.Engine(pool_messages=4) as engine:
        group, other = engine.create_group(), engine.create_group()
        listener = await group.listen("tcp://127.0.0.1:0")
        pairs = [
            await asyncio.gather(other.connect(listener.address), listener.accept())
            for _ in range(4)
        ]
        bad, stalled = await asyncio.gather(RawPeer.introduced(listener.address), listener.accept())
        await bad.send(frame(body=b"x", body_len=60000))
        half = await RawPeer.connect(listener.address)
        await half.send(LARGE_HELLO[:ENOUGH])
        stranger = await RawPeer.connect(listener.address)
        await stranger.send(hello())
        where = raw_server.address.to_header()
        other.post(tofu.Message(OpCode.HELLO_REQUEST, headers={"~connect_to": where}))
        waiting: list[asyncio.Task[object]] = [
            asyncio.create_task(other.connect(raw_server.address)),
            asyncio.create_task(group.receive()),
            asyncio.create_task(stalled.receive()),
            asyncio.create_task(pairs[0][0].request()),
            asyncio.create_task(pairs[1][1].receive()),
            asyncio.create_task(pairs[3][0].aclose()),
        ]

        async def flood(channel: tofu.Channel) -> None:
            while True:
                await channel.signal(bytes(60000))

        waiting += [asyncio.create_task(flood(pairs[2][side])) for side in (0, 1)]
        await until(
            lambda: all(connection_of(channel).queue.senders_waiting for channel in pairs[2])
        )
        await engine.aclose()
        statistics = engine.statistics()
        assert (statistics.channels, statistics.waiting) == (0, 0)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert result is None or isinstance(result, tofu.TofuError)
        for peer in (bad, half, stranger):
            await peer.end()
            peer.close()
    gc.collect()
    assert engine.statistics().pool_free == 4


# --- exhaustion --------------------------------------------------------------------------------


async def test_exhaustion_suspends_reading_until_the_sender_waits(
    small: tofu.Engine, two: Pair
) -> None:
    client, server = two
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await client.signal(b"%d" % sent + bytes(50000))
            sent += 1

    flooding = asyncio.create_task(flood())
    await until(lambda: connection_of(client).queue.senders_waiting)
    await settled(client, server)
    assert not flooding.done()
    assert not transport_of(server).is_reading()
    assert transport_of(client).is_reading()
    statistics = small.statistics()
    assert (statistics.pool_free, statistics.waiting, statistics.suspensions) == (0, 1, 1)
    assert server.statistics().suspensions == 1
    assert server.statistics().received == 4  # the Hello, one on the reserve, and two
    # The kernel's buffers are full; beyond them only the high-water mark is held.
    assert client.statistics().queued_bytes <= 2 * WRITE_HIGH_WATER + 50016
    before = sent
    for number in range(before):
        with await server.receive() as message:
            assert message.body.rstrip(b"\0") == b"%d" % number
    assert sent > before, "the flood went on"
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)


Release = Callable[[list[tofu.Message]], None]


def by_call(held: list[tofu.Message]) -> None:
    held.pop().release()


def by_with(held: list[tofu.Message]) -> None:
    with held.pop():
        pass


def by_forgetting(held: list[tofu.Message]) -> None:
    del held[-1]


def by_collection(held: list[tofu.Message]) -> None:
    cycle: list[object] = [held.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()


def by_thread(held: list[tofu.Message]) -> None:
    thread = threading.Thread(target=held.pop().release)
    thread.start()
    thread.join()


def by_thread_forgetting(held: list[tofu.Message]) -> None:
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "release", [by_call, by_with, by_forgetting, by_collection, by_thread, by_thread_forgetting]
)
async def test_reading_resumes_however_a_message_is_released(
    small: tofu.Engine, two: Pair, release: Release
) -> None:
    client, server = two
    # Two permits, the reserve, and what is lent while a task waits for more.
    count = 3 + LENT
    for number in range(count + 2):
        await client.signal(b"%d" % number)
    held = [await server.receive() for _ in range(count)]
    await until(lambda: not transport_of(server).is_reading())
    audit(small)
    receiving = asyncio.create_task(server.receive())
    await turns(5)
    assert not receiving.done()
    release(held)
    assert (await receiving).body == b"%d" % count
    audit(small)


async def test_a_permit_comes_back_once(small: tofu.Engine, two: Pair) -> None:
    """And the reserve after all of them."""
    client, server = two
    for _ in range(3):
        await client.signal()
    messages = [await server.receive() for _ in range(3)]
    for free, reserves in ((1, 1), (2, 1), (2, 0)):
        message = messages.pop()
        for _ in range(3):
            with message:
                message.release()
        assert (small.statistics().pool_free, small.statistics().reserves) == (free, reserves)
        del message
        assert (small.statistics().pool_free, small.statistics().reserves) == (free, reserves)


async def test_order_is_kept_whatever_the_suspensions(small: tofu.Engine, two: Pair) -> None:
    client, server = two
    random = Random(1)
    total = 400

    async def send() -> None:
        for number in range(total):
            await client.signal(b"%d" % number + bytes(random.choice((0, 10, 5000, 60000))))
            if random.random() < 0.2:
                await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    held: list[tofu.Message] = []
    for number in range(total):
        message = await server.receive()
        assert message.body.rstrip(b"\0") == b"%d" % number
        held.append(message)
        while len(held) == 3 or (held and random.random() < 0.5):
            held.pop(random.randrange(len(held))).release()
        if random.random() < 0.2:
            await turns(random.randrange(4))
        if number % 50 == 0:
            audit(small)
    await sending
    assert server.statistics().suspensions > 10
    held.clear()


async def test_both_directions_share_the_pool_and_keep_their_order(two: Pair) -> None:
    async def send(channel: tofu.Channel) -> None:
        for number in range(200):
            await channel.signal(b"%d" % number + bytes(2000))

    async def receive(channel: tofu.Channel) -> None:
        for number in range(200):
            with await channel.receive() as message:
                assert message.body.rstrip(b"\0") == b"%d" % number

    await asyncio.gather(*(act(channel) for channel in two for act in (send, receive)))


async def test_permits_go_to_who_waited_longest(small: tofu.Engine, both_ends: Connect) -> None:
    """However many messages a greedy channel has, a modest one gets its turn."""
    async with (
        small.create_group() as group,
        both_ends(group) as greedy,
        both_ends(group) as modest,
    ):
        for number in range(60):
            greedy.client.post(tofu.Message(OpCode.SIGNAL, b"%d" % number))
        await until(lambda: small.statistics().waiting == 1)
        for number in range(6):
            modest.client.post(tofu.Message(OpCode.SIGNAL, b"%d" % number))
        await until(lambda: small.statistics().waiting == 2)
        order: list[str] = []

        async def receive(name: str, channel: tofu.Channel, count: int) -> None:
            for number in range(count):
                with await channel.receive() as message:
                    assert message.body == b"%d" % number
                    order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(
            receive("greedy", greedy.server, 60), receive("modest", modest.server, 6)
        )
    # In turns, but for the three that the greedy one had before the other came.
    last = max(place for place, name in enumerate(order) if name == "modest")
    assert last < 2 * 6 + 6


async def test_200_channels_live_on_a_pool_of_4() -> None:
    async with tofu.Engine(pool_messages=4) as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        pairs = [
            await asyncio.gather(group.connect(listener.address), listener.accept())
            for _ in range(200)
        ]

        async def receive(channel: tofu.Channel) -> None:
            number = 0
            async for message in channel:
                with message:
                    assert message.body == b"%d" % number
                    number += 1
                    assert engine.statistics().application >= 1
                    await asyncio.sleep(0)
            assert number == 4

        async def send(channel: tofu.Channel) -> None:
            for number in range(4):
                await channel.signal(b"%d" % number)
            await channel.aclose()

        await asyncio.gather(
            *(receive(server) for _, server in pairs), *(send(client) for client, _ in pairs)
        )
        assert engine.statistics().suspensions > 200
        audit(engine)
        await asyncio.gather(*(server.aclose() for _, server in pairs))
    assert engine.statistics().pool_free == 4


async def test_a_turns_suspension_never_touches_the_socket(small: tofu.Engine, two: Pair) -> None:
    """A channel whose messages are taken as they come is read without a pause, even with a small
    pool."""
    client, server = two
    watched = Watched(server)

    async def receive() -> None:
        for number in range(450):
            with await server.receive() as message:
                assert message.body == b"%d" % number

    receiving = asyncio.create_task(receive())
    await turns(1)
    for number in range(450):
        client.post(tofu.Message(OpCode.SIGNAL, b"%d" % number))
    await receiving
    assert small.statistics().suspensions > 100
    assert watched.calls == []


async def test_a_longer_suspension_touches_the_socket_once_each_way(
    small: tofu.Engine, two: Pair
) -> None:
    client, server = two
    watched = Watched(server)
    for _ in range(4):
        client.post(tofu.Message(OpCode.SIGNAL))
    await until(lambda: small.statistics().waiting == 1)
    await turns(10)
    assert watched.calls == ["pause"]
    (await server.receive()).release()
    await turns(3)
    assert watched.calls == ["pause", "resume"]


async def test_200_busy_channels_on_a_pool_of_4_do_not_flap(both_ends: Connect) -> None:
    """With more to be read than there are permits, reading stops once, and goes on once the channel
    has had its turn: never more often than it is served, mostly far less.
    """
    count, messages = 200, 25
    async with (
        tofu.Engine() as sending,
        tofu.Engine(pool_messages=4) as engine,
        sending.create_group() as mine,
        engine.create_group() as theirs,
        contextlib.AsyncExitStack() as stack,
    ):
        pairs = [await stack.enter_async_context(both_ends(mine, theirs)) for _ in range(count)]
        watched = [Watched(server) for _, server in pairs]

        async def send(channel: tofu.Channel) -> None:
            for _ in range(messages):
                await channel.signal(bytes(1000))

        async def receive(channel: tofu.Channel) -> None:
            for _ in range(messages):
                with await channel.receive():
                    await asyncio.sleep(0)

        await asyncio.gather(*(send(c) for c, _ in pairs), *(receive(s) for _, s in pairs))
        served = sum(server.statistics().suspensions for _, server in pairs)
        told = [each.calls for each in watched]
        for calls in told:
            assert all(call != after for call, after in itertools.pairwise(calls)), "reported twice"
        changes = sum(map(len, told))
        print(f"{changes} changes for {served} suspensions and {count * messages} messages")
        assert served > count
        assert changes <= served / 5


async def test_waiting_for_a_permit_costs_no_turn_of_the_loop(
    small: tofu.Engine, two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = two
    for _ in range(5):
        client.post(tofu.Message(OpCode.SIGNAL))
    await until(lambda: small.statistics().waiting == 1)
    await settled(client, server)
    scheduled: list[object] = []
    monkeypatch.setattr(small._gate, "_reconcile", lambda: scheduled.append("reconcile"))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not scheduled
    monkeypatch.undo()


# --- memory ------------------------------------------------------------------------------------


async def test_a_flood_is_held_to_two_chunks_and_the_pool(
    small: tofu.Engine, listener_of_small: tofu.Listener
) -> None:
    peer, channel = await asyncio.gather(
        RawPeer.introduced(listener_of_small.address), listener_of_small.accept()
    )
    loop = asyncio.get_running_loop()
    flood = frame(body=bytes(1000)) * 50_000
    sending = asyncio.create_task(loop.sock_sendall(peer.sock, flood))
    decoder = connection_of(channel).decoder
    held = 0
    for _ in range(300):
        await asyncio.sleep(0)
        held = max(held, decoder.held)
    await until(lambda: not transport_of(channel).is_reading())
    await settled(channel)
    assert not sending.done()
    assert 0 < max(held, decoder.held) <= 2 * CHUNK
    assert (small.statistics().pool_free, small.statistics().inbox) == (0, 3)
    # A slow reader does not make it grow.
    for _ in range(500):
        (await channel.receive()).release()
        held = max(held, decoder.held)
    assert held <= 2 * CHUNK
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    peer.close()
    channel.abort()


@pytest.fixture
async def listener_of_small(small: tofu.Engine) -> AsyncIterator[tofu.Listener]:
    async with small.create_group() as group, await group.listen("tcp://127.0.0.1:0") as listener:
        yield listener


async def test_a_channel_that_waits_keeps_no_more_than_it_has(
    small: tofu.Engine, two: Pair
) -> None:
    """Data that has become messages is released, though its chunk is not used up."""
    client, server = two
    for number in range(40):
        client.post(tofu.Message(OpCode.SIGNAL, b"%d" % number + bytes(1000)))
    await until(lambda: small.statistics().waiting == 1)
    await settled(client, server)
    before = connection_of(server).decoder.held
    for _ in range(20):
        (await server.receive()).release()
        await turns(3)
    assert connection_of(server).decoder.held <= before - 18 * 1000


# --- closing with the pool empty -----------------------------------------------------------------


@pytest.fixture
async def exhausted(
    small: tofu.Engine, two: Pair, both_ends: Connect
) -> AsyncIterator[tuple[Pair, list[tofu.Message]]]:
    """A channel of an engine whose permits are held, all of them, by messages of another.

    Its own reserve is held by a message that was received and is kept, too.
    """
    async with small.create_group() as group, both_ends(group) as pair:
        for _ in range(3):
            await two.client.signal()
        held = [await two.server.receive() for _ in range(3)]
        await pair.client.signal()
        held.append(await pair.server.receive())
        assert (small.statistics().pool_free, small.statistics().reserves) == (0, 2)
        yield pair, held
        held.clear()


Exhausted = tuple[Pair, list[tofu.Message]]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("side", [0, 1])
async def test_closing_needs_no_permit(exhausted: Exhausted, side: int) -> None:
    pair, _ = exhausted
    await pair[side].aclose()
    assert [type(channel.end) for channel in pair] == [tofu.ChannelEnded] * 2


@pytest.mark.usefixtures("patient")
async def test_closing_needs_no_permit_when_both_do(exhausted: Exhausted) -> None:
    pair, _ = exhausted
    await asyncio.gather(*(channel.aclose() for channel in pair))
    assert [type(channel.end) for channel in pair] == [tofu.ChannelEnded] * 2


@pytest.mark.usefixtures("patient")
async def test_a_channel_that_waits_for_a_permit_closes_at_once(
    small: tofu.Engine, exhausted: Exhausted
) -> None:
    """What it waits to read is dropped, and needs no permit for that."""
    (client, server), held = exhausted
    for _ in range(200):
        await client.signal(bytes(1000))
    await until(lambda: small.statistics().waiting == 1)
    await server.aclose()
    assert isinstance(server.end, tofu.ChannelEnded)
    assert isinstance(client.end, tofu.ChannelEnded)
    assert small.statistics().waiting == 0
    assert len(held) == 4


@pytest.mark.usefixtures("patient")
async def test_a_peer_that_waits_for_a_permit_is_closed_when_it_closes_too(
    small: tofu.Engine, exhausted: Exhausted
) -> None:
    (client, server), _ = exhausted
    await client.signal(b"unread")
    await until(lambda: small.statistics().waiting == 1)
    closing = asyncio.create_task(client.aclose())
    await turns(10)
    assert not closing.done()
    await asyncio.gather(closing, server.aclose())
    assert [type(channel.end) for channel in (client, server)] == [tofu.ChannelEnded] * 2


async def test_aborting_while_waiting_for_a_permit(
    small: tofu.Engine, exhausted: Exhausted
) -> None:
    (client, server), held = exhausted
    for number in range(10):
        await client.signal(b"%d" % number)
    await until(lambda: small.statistics().waiting == 1)
    server.abort()
    assert server.state is State.CLOSED
    assert small.statistics().waiting == 0
    await until(lambda: client.end is not None)
    held.clear()
    assert small.statistics().pool_free == 2


async def test_a_peer_lost_while_waiting_for_a_permit(
    small: tofu.Engine, exhausted: Exhausted
) -> None:
    (client, server), held = exhausted
    for number in range(10):
        await client.signal(b"%d" % number)
    await until(lambda: small.statistics().waiting == 1)
    client.abort()
    await turns(20)
    assert small.statistics().waiting == 1, "what arrived is still to be received"
    held.clear()
    bodies = []

    async def receive_all() -> None:
        while True:
            with await server.receive() as message:
                bodies.append(message.body)

    with pytest.raises(tofu.PeerDisconnected):
        await receive_all()
    # A reset discards what its own side had not sent yet.
    assert bodies == [b"%d" % number for number in range(len(bodies))]
    assert bodies


@pytest.mark.usefixtures("patient")
async def test_both_ends_may_flood_each_other_and_still_close(
    small: tofu.Engine, two: Pair
) -> None:
    """No side receives: sending waits on both sides, the loop goes on, and closing works."""

    async def flood(channel: tofu.Channel) -> None:
        while True:
            await channel.signal(bytes(50000))

    floods = [asyncio.create_task(flood(channel)) for channel in two]
    await until(lambda: all(connection_of(channel).queue.senders_waiting for channel in two))
    await settled(*two)
    assert not any(task.done() for task in floods)
    await asyncio.gather(*(channel.aclose() for channel in two))
    for task in floods:
        with pytest.raises((tofu.ChannelClosed, tofu.PeerDisconnected)):
            await task
    assert small.statistics().pool_free == 2


async def test_one_end_of_a_mutual_flood_closes_in_bounded_time(
    small: tofu.Engine, two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.05)

    async def flood(channel: tofu.Channel) -> None:
        while True:
            await channel.signal(bytes(50000))

    floods = [asyncio.create_task(flood(channel)) for channel in two]
    await until(lambda: all(connection_of(channel).queue.senders_waiting for channel in two))
    await two.client.aclose()
    results = await asyncio.gather(*floods, return_exceptions=True)
    assert [type(result) for result in results] == [tofu.ChannelClosed, tofu.PeerDisconnected]


async def test_whoever_holds_all_permits_learns_that_it_sends_in_vain(
    small: tofu.Engine, both_ends: Connect
) -> None:
    """A handler that answers while holding what it answers: its peer leaves without reading."""
    async with small.create_group() as group, both_ends(group) as (client, server):
        for _ in range(5):
            await client.signal()
        held = [await server.receive() for _ in range(3)]

        async def answer() -> None:
            while True:
                await server.signal(bytes(60000))

        answering = asyncio.create_task(answer())
        await until(lambda: connection_of(server).queue.senders_waiting)
        client.abort()
        with pytest.raises(tofu.PeerDisconnected):
            await answering
        assert len(held) == 3
        held.clear()


# --- odd moments -------------------------------------------------------------------------------


@pytest.fixture
def restless_collector() -> Iterator[None]:
    """Collect garbage at about every allocation."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)


@pytest.mark.skipif(
    bool(get_config_var("Py_GIL_DISABLED")), reason="this Python collects no garbage so often"
)
@pytest.mark.usefixtures("restless_collector")
async def test_messages_may_be_collected_at_any_moment(small: tofu.Engine, two: Pair) -> None:
    """In cycles, so that only the collector finds them, within any call of the library."""
    client, server = two

    class Holder:
        def __init__(self, message: tofu.Message) -> None:
            self.message = message
            self.own = self

    async def send() -> None:
        for number in range(60):
            await client.signal(b"%d" % number)

    sending = asyncio.create_task(send())
    for number in range(60):
        message = await server.receive()
        assert message.body == b"%d" % number
        Holder(message)
        del message
    await sending


async def test_messages_may_be_released_by_many_threads_at_once(
    small: tofu.Engine, two: Pair
) -> None:
    client, server = two

    async def send() -> None:
        for number in range(300):
            await client.signal(b"%d" % number)

    sending = asyncio.create_task(send())
    threads = []
    for number in range(300):
        message = await server.receive()
        assert message.body == b"%d" % number
        threads.append(threading.Thread(target=message.release))
        threads[-1].start()
        del message
    await sending
    for thread in threads:
        thread.join()
    await until(lambda: small.statistics().pool_free == 2)


async def test_a_forwarded_message_keeps_its_permit_until_it_is_written(
    small: tofu.Engine, both_ends: Connect
) -> None:
    async with small.create_group() as group, both_ends(group) as source, both_ends(group) as sink:
        filler = []
        while not connection_of(sink.client).queue.paused:
            filler.append(sink.client.post(tofu.Message(OpCode.SIGNAL, bytes(65535))))
            await turns(1)
        # Its pair shares the pool and took what it could: nothing is left for the others.
        first = await sink.server.receive()
        first.release()
        await settled(sink.client, sink.server)
        audit(small)
        queued = connection_of(sink.client).queue
        message = sink.server._mailbox.items.popleft()
        sink.client.post(message)
        message.release()
        assert queued.carried
        audit(small)
        sink.client.abort()
        assert not queued.carried
        audit(small)
        source.client.abort()


# --- everything at once ------------------------------------------------------------------------


class Talker:
    """One end of a channel that does everything, at random, and keeps account."""

    def __init__(self, channel: tofu.Channel, random: Random) -> None:
        self.channel = channel
        self.random = random
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self.answered = self.given_up = 0

    async def cancelled_at_random(self, task: asyncio.Task[object]) -> bool:
        await turns(self.random.randrange(6))
        if self.random.random() < 0.3:
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    async def send(self) -> None:
        for number in range(40):
            body = b"%d." % number + bytes(self.random.choice((0, 0, 100, 9000, 65000)))
            message = tofu.Message(OpCode.SIGNAL, body)
            if not await self.cancelled_at_random(asyncio.create_task(self.channel.send(message))):
                self.sent.append(body)

    async def ask(self) -> None:
        for number in range(20):
            body = b"%d?" % number
            timeout = self.random.choice((None, None, 0.001))
            task = asyncio.create_task(self.channel.request(body, timeout=timeout))
            if await self.cancelled_at_random(task) or task.exception() is not None:
                assert task.cancelled() or isinstance(task.exception(), TimeoutError)
                self.given_up += 1
            else:
                with task.result() as response:
                    assert response.body == body
                self.answered += 1

    async def receive(self) -> None:
        held: list[tofu.Message] = []
        with contextlib.suppress(tofu.ChannelEnded):
            while True:
                task = asyncio.create_task(self.channel.receive())
                if await self.cancelled_at_random(task):
                    continue
                message = task.result()
                del task
                if message.op_code is OpCode.REQUEST:
                    with contextlib.suppress(tofu.PeerDisconnected, tofu.ChannelClosed):
                        await self.channel.reply(message, message.body)
                else:
                    self.received.append(message.body)
                held.append(message)
                del message
                while held and (len(held) > 1 or self.random.random() < 0.8):
                    self.random.choice((by_call, by_with, by_forgetting, by_collection))(held)
                if self.random.random() < 0.2:
                    await turns(self.random.randrange(5))


@pytest.mark.parametrize("seed", range(2))
async def test_everything_at_once(both_ends: Connect, seed: int) -> None:
    """A pool of fewer messages than there are ends, which each keep some, and tasks that are
    cancelled at random: each message that was sent comes once, in order.
    """
    random = Random(seed)
    async with (
        tofu.Engine(pool_messages=3) as engine,
        engine.create_group() as group,
        contextlib.AsyncExitStack() as stack,
    ):
        pairs = [await stack.enter_async_context(both_ends(group)) for _ in range(5)]
        talkers = [[Talker(channel, random) for channel in pair] for pair in pairs]

        async def converse(one: Talker, other: Talker) -> None:
            receiving = [asyncio.create_task(talker.receive()) for talker in (one, other)]
            await asyncio.gather(one.send(), other.send(), one.ask(), other.ask())
            await one.channel.send_eof()
            await receiving[1]
            await other.channel.aclose()
            await receiving[0]
            assert one.received == other.sent
            assert other.received == one.sent

        await asyncio.gather(*(converse(*pair) for pair in talkers))
        audit(engine)
        everyone = [talker for pair in talkers for talker in pair]
        assert sum(talker.answered for talker in everyone)
        assert sum(talker.given_up for talker in everyone)
        assert engine.statistics().suspensions
    gc.collect()
    assert (engine.statistics().pool_free, engine.statistics().reserves) == (3, 0)

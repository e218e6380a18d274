"""The limits of an engine, from outside: how many messages may be alive, and what is reported."""

from __future__ import annotations

import asyncio
import gc
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import Connect
from tests.messaging.peers import (
    Pair,
    RawPeer,
    connection_of,
    frame,
    hello,
    settled,
    transport_of,
    turns,
    until,
)
from tofu_aio import Allocation, OpCode, Triggers
from tofu_aio.messaging import limits as limits_module
from tofu_aio.messaging.connection.agreements import Extension
from tofu_aio.messaging.limits import LARGEST_MESSAGE
from tofu_aio.protocol.account import LENT
from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_PART
from tofu_aio.protocol.op_code import MORE_BIT
from tofu_aio.protocol.text_headers import WHOLE
from tofu_aio.transport.limits import WRITE_HIGH_WATER


def adds_up(now: tofu.EngineStatistics) -> bool:
    """Every permit, and every reserve in use, is with exactly one of those that can have it."""
    holders = now.inbox + now.application + now.outgoing
    return now.pool_size + now.reserves == now.pool_free + holders


@asynccontextmanager
async def across(
    both_ends: Connect, sending: tofu.Engine, receiving: tofu.Engine
) -> AsyncIterator[Pair]:
    """A channel from one engine to another, which end with it."""
    async with (
        sending,
        receiving,
        sending.create_group() as mine,
        receiving.create_group() as theirs,
        both_ends(mine, theirs) as pair,
    ):
        yield pair


# --- what may be asked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"pool_messages": 9000, "pool_bytes": LARGEST_MESSAGE},
            "pool_messages is 9000: give 1 to 8192",
        ),
        ({"pool_bytes": LARGEST_MESSAGE - 1}, "pool_bytes is 131085: give 131086 or more"),
        ({"pool_bytes": 1e6}, "pool_bytes is 1000000.0, not an integer"),
        ({"channel_share": 0}, "channel_share is 0: give 0.001 to 1"),
        ({"channel_share": 1.1}, "channel_share is 1.1: give 0.001 to 1"),
        ({"channel_share": float("nan")}, "channel_share is nan"),
        ({"channel_share": "half"}, "channel_share is 'half', not a number"),
        ({"max_body": 65_534}, "max_body is 65534: give 65535 or more"),
        ({"max_body": 1e7}, "max_body is 10000000.0, not an integer"),
        ({"joining_bytes": 65_534}, "joining_bytes is 65534: give 65535 or more"),
        ({"write_high_water": 0}, "write_high_water is 0: give 1 or more"),
        ({"write_high_water": 10, "write_low_water": 11}, "write_low_water is 11: give 0 to 10"),
        ({"write_low_water": -1}, "write_low_water is -1: give 0 to 131072"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        tofu.Engine(**options)


# --- bytes -----------------------------------------------------------------------------------


async def test_as_many_bytes_are_alive_as_the_pool_may_have(both_ends: Connect) -> None:
    """Beside the one on the reserve. Long messages fewer, and the sender of too much waits."""
    async with (
        tofu.Engine() as sending,
        tofu.Engine(100, pool_bytes=200_000, channel_share=1) as receiving,
    ):
        async with (
            sending.create_group() as mine,
            receiving.create_group() as theirs,
            both_ends(mine, theirs) as (client, server),
        ):
            flooding = asyncio.create_task(flood(client, bytes(50_000)))
            await until(lambda: receiving.statistics().waiting)
            await settled(client, server)
            now = receiving.statistics()
            assert len(server._mailbox.items) == 1 + 3, "and 4 would have 200,064 bytes"
            assert now.inbox == now.pool_size + now.reserves - now.pool_free
            assert (now.reserves, adds_up(now)) == (1, True)
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            server.abort()
        assert (receiving.statistics().pool_free, receiving.statistics().reserves) == (100, 0)


async def flood(channel: tofu.Channel, body: bytes) -> None:
    while True:
        await channel.signal(body)


@pytest.mark.parametrize("keeps", [False, True])
async def test_the_longest_message_passes_the_smallest_pool(
    both_ends: Connect, keeps: bool
) -> None:
    """On the reserve; or, if that has another message, with all the permits that there are."""
    async with (
        tofu.Engine(1000, pool_bytes=LARGEST_MESSAGE, channel_share=1) as engine,
        engine.create_group() as group,
        both_ends(group) as (client, server),
    ):
        await client.signal(b"first")
        kept = await server.receive()
        if not keeps:
            kept.release()
        longest = tofu.Message(OpCode.SIGNAL, bytes(65535), {"n": "v" * 65_531})
        for _ in range(5):
            client.post(longest)
            await client.signal(b"short")
        for _ in range(5):
            await until(
                lambda: server._mailbox.items
            )  # a task that waits in receive() is lent the reserve
            with await server.receive() as message:
                assert len(message.body) == 65535
                now = engine.statistics()
                out = (now.pool_size - now.pool_free, now.application)
                assert out == ((1000, 1001) if keeps else (now.inbox, 1))
            await until(lambda: server._mailbox.items)
            with await server.receive() as message:
                assert message.body == b"short"


async def test_a_peer_that_uses_an_id_again_and_again_has_nothing_for_nothing(
    both_ends: Connect,
) -> None:
    """The parts of a long request need no permits, as many of them as are joined. What follows the
    last one under the same id is other requests.
    """
    async with (
        tofu.Engine(4) as engine,
        engine.create_group() as group,
        await group.listen("tcp://127.0.0.1:0") as listener,
    ):
        introducing = asyncio.create_task(RawPeer.introduced(listener.address))
        channel = await listener.accept()
        connection_of(channel).peer_supports |= Extension.WHOLE
        whole = f"{WHOLE}:3\r\n".encode()
        with await introducing as peer:
            await peer.send(frame(OpCode.REQUEST | MORE_BIT, b"1", whole, message_id=7))
            await until(lambda: channel.statistics().received == 2)
            flood = frame(body=b"another", message_id=7) * 100
            await peer.send(frame(body=b"23", message_id=7) + flood)
            await until(lambda: waiting(engine))
            await settled(channel)
            waits = list(channel._mailbox.items)
            assert waits[0].body == b"123"
            assert all(message._permit is not None for message in waits)
            assert len(waits) <= 1 + 4
            waits.clear()
            for _ in range(101):
                (await channel.receive()).release()
            channel.abort()


def waiting(engine: tofu.Engine) -> int:
    """Channels that wait, for others or for their own messages."""
    now = engine.statistics()
    return now.waiting + now.over_share


# --- reserves --------------------------------------------------------------------------------


async def test_who_lets_go_of_its_messages_receives_whatever_others_keep(
    both_ends: Connect,
) -> None:
    async with (
        tofu.Engine() as sending,
        tofu.Engine(4, channel_share=1) as engine,
        sending.create_group() as mine,
        engine.create_group() as theirs,
        both_ends(mine, theirs) as greedy,
        both_ends(mine, theirs) as (client, server),
    ):
        for number in range(10):
            await greedy.client.signal(b"%d" % number)
        kept = [await greedy.server.receive() for _ in range(5)]
        assert (engine.statistics().pool_free, engine.statistics().reserves) == (0, 1)
        for number in range(50):
            await client.signal(b"%d" % number + bytes(60_000))
            with await server.receive() as message:
                assert message.body.rstrip(b"\0") == b"%d" % number
                assert engine.statistics().reserves == 2
        assert engine.statistics().application == len(kept)
        greedy.server.abort()


@pytest.mark.parametrize("first", ["waits", "sends"])
async def test_who_keeps_a_message_and_waits_for_the_next_gets_it(
    both_ends: Connect, first: str
) -> None:
    """A loop's variable drops the last message when it gets the next one. Others hold the pool.

    In either order: the application waits first, or the message finds no room first.
    """
    engine = tofu.Engine(1)
    async with across(both_ends, tofu.Engine(), engine) as (client, server):
        taken = engine.get(Allocation.POOL_ONLY)
        await client.signal(b"-1")
        kept = await server.receive()
        for number in range(20):
            if first == "waits":
                receiving = asyncio.create_task(server.receive())
                await turns(3)
                await client.signal(b"%d" % number)
            else:
                await client.signal(b"%d" % number)
                await until(lambda: waiting(engine))
                receiving = asyncio.create_task(server.receive())
            message = await asyncio.wait_for(receiving, 20)
            assert (message.body, kept.body) == (b"%d" % number, b"%d" % (number - 1))
            assert engine.statistics().reserves == 2
            kept = message
            del message, receiving
            assert engine.statistics().reserves == 1
        engine.put(taken)


async def test_who_keeps_more_than_a_few_waits_for_the_pool(both_ends: Connect) -> None:
    engine = tofu.Engine(1)
    async with across(both_ends, tofu.Engine(), engine) as (client, server):
        taken = engine.get(Allocation.POOL_ONLY)
        for _ in range(LENT + 2):
            await client.signal()
        kept = [await server.receive() for _ in range(LENT + 1)]
        receiving = asyncio.create_task(server.receive())
        await settled(client, server)
        assert not receiving.done()
        assert (engine.statistics().reserves, waiting(engine)) == (LENT + 1, 1)
        kept.pop()
        await asyncio.wait_for(receiving, 20)
        assert waiting(engine) == 0
        engine.put(taken)


async def test_each_of_more_channels_than_there_are_permits_may_keep_its_last_message(
    both_ends: Connect,
) -> None:
    """As the variable of each handler's loop does while it waits for the next one."""
    async with (
        tofu.Engine() as sending,
        tofu.Engine(2) as engine,
        sending.create_group() as mine,
        engine.create_group() as theirs,
        AsyncExitStack() as stack,
    ):

        async def handle(channel: tofu.Channel) -> None:
            async for request in channel:
                await channel.reply(request, request.body)

        pairs = [await stack.enter_async_context(both_ends(mine, theirs)) for _ in range(12)]
        handling = [asyncio.create_task(handle(pair.server)) for pair in pairs]
        for round_ in range(3):
            for pair in pairs:
                with await pair.client.request(b"%d" % round_, timeout=20) as response:
                    assert response.body == b"%d" % round_
        now = engine.statistics()
        assert (now.pool_free, now.reserves, now.application) == (2, 12, 12)
        for pair in pairs:
            await pair.client.aclose()
        await asyncio.gather(*handling)


async def test_a_response_that_is_awaited_takes_neither_a_permit_nor_the_reserve(
    both_ends: Connect,
) -> None:
    """The requesting side may keep any number: the pool and the reserve are for others."""
    engine = tofu.Engine(1)
    async with across(both_ends, engine, tofu.Engine()) as (client, server):

        async def answer() -> None:
            async for request in server:
                await server.reply(request, bytes(50_000))
                request.release()

        answering = asyncio.create_task(answer())
        await server.signal(b"kept")
        kept = await client.receive()
        responses = await asyncio.gather(*(client.request(timeout=20) for _ in range(40)))
        now = engine.statistics()
        assert (now.pool_free, now.reserves, now.application, now.suspensions) == (1, 1, 1, 0)
        assert {len(response.body) for response in responses} == {50_000}
        assert kept.body == b"kept"
        await client.aclose()
        await answering


async def test_requests_under_way_are_counted(both_ends: Connect) -> None:
    engine = tofu.Engine(4)
    async with across(both_ends, engine, tofu.Engine()) as (client, server):
        asking = [asyncio.create_task(client.request()) for _ in range(3)]
        requests = [await server.receive() for _ in range(3)]
        assert (engine.statistics().awaited, client.statistics().awaited) == (3, 3)
        asking[0].cancel()
        await turns(2)
        assert (engine.statistics().awaited, client.statistics().awaited) == (2, 2)
        for request in requests:
            await server.reply(request)
        await asyncio.gather(*asking, return_exceptions=True)
        await until(lambda: client.statistics().late_responses == 1)
        assert (engine.statistics().awaited, adds_up(engine.statistics())) == (0, True)


# --- shares ----------------------------------------------------------------------------------


@pytest.mark.parametrize("greedy", [1, 5])
async def test_who_asks_and_never_reads_leaves_something_for_others(
    engine: tofu.Engine, greedy: int
) -> None:
    """A task for each request, as servers do: those of the greedy wait in ``reply`` for ever."""

    async def answer(channel: tofu.Channel, request: tofu.Message) -> None:
        with request:
            await channel.reply(request, bytes(60_000))

    async def serve(channel: tofu.Channel) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for request in channel:
                tasks.create_task(answer(channel, request))

    async with (
        tofu.Engine(64, channel_share=0.5) as serving,
        serving.create_group() as group,
        await group.listen("tcp://127.0.0.1:0") as listener,
        engine.create_group() as clients,
    ):
        server = asyncio.create_task(listener.serve(serve))
        peers = [await RawPeer.connect(listener.address) for _ in range(greedy)]
        for peer in peers:
            await peer.send(hello())
            await peer.message()
            await peer.send(b"".join(frame(message_id=n + 1) for n in range(500)))
        await until(lambda: serving.statistics().over_share == greedy)
        honest = await clients.connect(listener.address)
        for _ in range(20):
            with await honest.request(b"?") as response:
                assert len(response.body) == 60_000
        await honest.aclose()
        assert serving.statistics().over_share == greedy
        for peer in peers:
            peer.close()
        await listener.aclose()
        await server


async def test_two_that_flood_each_other_unread_leave_something_for_others(
    both_ends: Connect,
) -> None:
    async with (
        tofu.Engine(8, channel_share=0.5) as one,
        tofu.Engine(8, channel_share=0.5) as other,
        one.create_group() as here,
        other.create_group() as there,
        both_ends(here, there) as pair,
        both_ends(here, there) as (client, server),
    ):
        floods = [asyncio.create_task(flood(channel, bytes(50_000))) for channel in pair]
        await until(lambda: all(connection_of(channel).queue.senders_waiting for channel in pair))
        await settled(*pair)
        for number in range(50):
            await client.signal(b"%d" % number)
            with await server.receive() as message:
                assert message.body == b"%d" % number
        assert not any(task.done() for task in floods)
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        for channel in pair:
            channel.abort()


# --- what is reported ------------------------------------------------------------------------


async def test_every_permit_is_with_one_of_those_who_can_have_it(both_ends: Connect) -> None:
    engine = tofu.Engine(10)
    async with across(both_ends, tofu.Engine(), engine) as (client, server):
        for _ in range(5):
            await client.signal(bytes(100))
        await until(lambda: len(server._mailbox.items) == 5)
        taken = [await server.receive() for _ in range(2)]
        made = engine.get(Allocation.POOL_ONLY)
        now = engine.statistics()
        assert (now.inbox, now.application, now.outgoing, now.pool_free) == (3, 3, 0, 5)
        assert (now.reserves, adds_up(now)) == (1, True), "the first message is on the reserve"
        assert now.held_bytes == 3 * 116
        assert server.statistics().held == 5
        assert not server.statistics().suspended
        connection_of(server).pause_writing()
        server.post(taken.pop())
        now = engine.statistics()
        assert (now.inbox, now.application, now.outgoing, now.pool_free) == (3, 2, 1, 5)
        assert now.held_bytes == 4 * 116
        connection_of(server).resume_writing()
        await until(lambda: engine.statistics().outgoing == 0)
        engine.put(made)
        taken.clear()
        gc.collect()
        assert adds_up(engine.statistics())
        assert engine.statistics().application == 0
        await until(lambda: server.statistics().triggers == Triggers.RECV)


async def test_what_one_engine_received_and_another_sends_is_counted_once(
    both_ends: Connect,
) -> None:
    async with (
        tofu.Engine(4) as one,
        tofu.Engine(4) as other,
        one.create_group() as here,
        other.create_group() as there,
        both_ends(here, there) as (client, server),
    ):
        await client.signal()
        received = await server.receive()
        connection_of(client).pause_writing()
        client.post(received)
        for engine, out in ((one, 0), (other, 1)):
            now = engine.statistics()
            assert (now.pool_free, now.reserves, now.inbox, now.outgoing) == (4, out, 0, 0)
            assert now.application == out, "held by nothing that this engine knows"
        connection_of(client).resume_writing()


async def test_what_a_lost_channel_left_unreceived_is_in_its_inbox(both_ends: Connect) -> None:
    async with (
        tofu.Engine(8) as engine,
        engine.create_group() as group,
        both_ends(group) as (client, server),
    ):
        for _ in range(5):
            client.post(tofu.Message(OpCode.SIGNAL))
        await until(lambda: len(server._mailbox.items) == 5)
        client.abort()
        await until(lambda: engine.statistics().channels == 0)
        now = engine.statistics()
        assert (now.inbox, now.application) == (5, 0)


async def test_a_long_message_to_who_holds_nothing_needs_no_turn(both_ends: Connect) -> None:
    """Though it is more than its share: it has the reserve."""
    engine = tofu.Engine(1000, pool_bytes=LARGEST_MESSAGE, channel_share=0.01)
    async with across(both_ends, tofu.Engine(), engine) as (client, server):
        for _ in range(3):
            await client.signal(bytes(60_000))
            (await server.receive()).release()
        assert engine.statistics().suspensions == 0


async def test_a_suspended_channel_says_for_how_long(both_ends: Connect) -> None:
    engine = tofu.Engine(1)
    async with across(both_ends, tofu.Engine(), engine) as (client, server):
        for _ in range(3):
            await client.signal()
        await until(lambda: server.statistics().suspended)
        before = server.statistics()
        assert engine.statistics().longest_wait >= before.suspended_for
        assert (before.held, before.suspensions, before.triggers) == (2, 1, Triggers.POOL)
        await until(lambda: server.statistics().suspended_for > before.suspended_for)
        for _ in range(3):
            (await server.receive()).release()
        after = server.statistics()
        assert (after.held, after.suspended) == (0, False)
        assert after.suspended_for == pytest.approx(engine.statistics().longest_wait, rel=1)
        now = server.statistics()
        assert now.suspended_for == after.suspended_for, "it stands still"


async def test_the_log_names_who_holds_what_others_wait_for(
    both_ends: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once; and in debug mode where, and for how long."""
    monkeypatch.setattr(limits_module, "HELD_TOO_LONG", 0.02)
    async with (
        tofu.Engine() as sending,
        tofu.Engine(3, channel_share=1) as engine,
        sending.create_group() as mine,
        engine.create_group() as theirs,
        both_ends(mine, theirs) as (client, server),
        both_ends(mine, theirs) as (other, waits),
    ):
        for _ in range(4):
            await client.signal()
        kept = [await server.receive()]
        kept.append(await server.receive())
        await other.signal()
        await other.signal()
        await until(lambda: said_by_us(caplog))
        (said,) = said_by_us(caplog)
        assert said.startswith("1 channel waits for room in the pool")
        assert "of 5 messages in the pool or on reserves the application holds 2, 3 are in" in said
        assert "over their share" not in said
        assert f"channel {server.number}: 2, SIGNAL {kept[0].message_id} (received 0 s" in said
        assert f"{__file__}:" in said
        assert "in test_the_log_names_who_holds_what_others_wait_for" in said
        assert str(waits.number) not in said.partition("application holds:")[2]
        kept.clear()
        await until(lambda: not engine.statistics().waiting)
        for channel in (server, waits):
            while channel._mailbox.items:
                (await channel.receive()).release()
    await turns(3)


async def test_the_log_names_who_holds_what_its_own_channel_waits_for(
    both_ends: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that has its share waits as long as they are kept, though the pool has room."""
    monkeypatch.setattr(limits_module, "HELD_TOO_LONG", 0.02)
    async with across(both_ends, tofu.Engine(), tofu.Engine(8)) as (client, server):
        for _ in range(20):
            await client.signal()
        kept = [await server.receive() for _ in range(5)]
        await until(lambda: said_by_us(caplog))
        (said,) = said_by_us(caplog)
        assert said.startswith("1 channel waits for room in the pool")
        assert "(1 of them over their share)" in said
        assert "the application holds 5, 0 are in inboxes" in said
        assert "4 permits are free" in said
        assert f"channel {server.number}: 5, SIGNAL {kept[0].message_id}" in said
        assert said.endswith("(it may keep 4 and one on its reserve)")
        assert (
            "Release messages sooner, or give the engine a larger channel_share (it is 0.5), or "
            "give the engine more pool_messages (it has 8). The app" in said
        )
        kept.clear()
        for _ in range(15):
            (await server.receive()).release()


async def test_the_log_names_the_exchange_whose_parts_nobody_receives(
    both_ends: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits_module, "HELD_TOO_LONG", 0.02)
    async with (
        across(both_ends, tofu.Engine(), tofu.Engine(8)) as (client, server),
        client.stream() as sending,
    ):
        for _ in range(20):
            await sending.send(b"part")
        async with server.stream(await server.receive()) as exchange:
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(sending._parts, "items", _Changing())
                await until(lambda: said_by_us(caplog))
            (said,) = said_by_us(caplog)
            assert f"were not received, 5 of exchange {exchange.message_id} (it may" in said
            assert "or leave them, as 'async with channel.stream(...) as exchange'" in said
            assert "REQUEST" not in said


class _Changing(deque[tofu.Message]):
    """What an engine's loop in another thread changes all the time."""

    def __iter__(self) -> Iterator[tofu.Message]:
        raise RuntimeError("deque mutated during iteration")


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("tofu_aio")]


# --- water marks -----------------------------------------------------------------------------


@pytest.mark.parametrize("high", [10_000, 500_000])
async def test_sending_waits_at_the_high_water_mark(both_ends: Connect, high: int) -> None:
    engine = tofu.Engine(1)
    async with across(both_ends, tofu.Engine(write_high_water=high), engine) as (client, server):
        flooding = asyncio.create_task(flood(client, bytes(5_000)))
        await until(lambda: connection_of(client).queue.senders_waiting)
        await settled(client, server)
        assert high <= client.statistics().queued_bytes <= 2 * high + 5_016
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        client.abort()


async def test_sending_goes_on_at_the_low_water_mark(both_ends: Connect) -> None:
    async with (
        tofu.Engine(write_high_water=100_000, write_low_water=7) as engine,
        engine.create_group() as group,
        both_ends(group) as (client, _),
    ):
        transport: Any = connection_of(client).queue.transport
        assert transport.get_write_buffer_limits() == (7, 100_000)


async def test_sending_long_bodies_waits_at_the_high_water_mark_too(tcp_pair: Pair) -> None:
    """They reach the transport by another way, on which some versions of asyncio do not look."""
    client, server = tcp_pair
    transport_of(server).pause_reading()
    body = bytes(MAX_PART)

    async def flood() -> None:
        for _ in range(1000):
            await client.signal(body)

    task = asyncio.create_task(flood())
    await until(lambda: task.done() or connection_of(client).queue.senders_waiting)
    assert not task.done()
    assert connection_of(client).queue.nbytes <= 2 * WRITE_HIGH_WATER + HEADER_SIZE + MAX_PART
    task.cancel()
    client.abort()
    server.abort()

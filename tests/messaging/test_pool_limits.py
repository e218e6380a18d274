"""The limits of an engine, from outside: what may be alive, of whom, and who is told."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from tofu_aio.messaging.limits import LARGEST_MESSAGE, WRITE_HIGH_WATER
from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_PART


def adds_up(now: tofu.EngineStatistics) -> bool:
    """Every permit is with exactly one of those that can have it."""
    return now.pool_size == now.pool_free + now.inbox + now.application + now.outgoing


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
        ({"pool_bytes": 1e6}, "pool_bytes is 1000000.0, no whole number"),
        ({"channel_share": 0}, "channel_share is 0: give 0.001 to 1"),
        ({"channel_share": 1.1}, "channel_share is 1.1: give 0.001 to 1"),
        ({"channel_share": float("nan")}, "channel_share is nan"),
        ({"channel_share": "half"}, "channel_share is 'half', no number"),
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
    """Long messages fewer, short ones more; and the sender of too much waits."""
    async with tofu.Engine() as sending, tofu.Engine(100, pool_bytes=200_000) as receiving:
        async with (
            sending.create_group() as mine,
            receiving.create_group() as theirs,
            both_ends(mine, theirs) as (client, server),
        ):
            flooding = asyncio.create_task(flood(client, bytes(50_000)))
            await until(lambda: receiving.statistics().waiting)
            await settled(client, server)
            now = receiving.statistics()
            assert len(server._mailbox.items) == 3, "and 4 would have 200,064 bytes"
            assert (now.inbox, adds_up(now)) == (now.pool_size - now.pool_free, True)
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            server.abort()
        assert receiving.statistics().pool_free == 100


async def flood(channel: tofu.Channel, body: bytes) -> None:
    while True:
        await channel.signal(body)


async def test_the_longest_message_passes_the_smallest_pool(both_ends: Connect) -> None:
    async with (
        tofu.Engine(1000, pool_bytes=LARGEST_MESSAGE) as engine,
        engine.create_group() as group,
        both_ends(group) as (client, server),
    ):
        longest = tofu.Message(OpCode.SIGNAL, bytes(65535), {"n": "v" * 65_531})
        for _ in range(5):
            client.post(longest)
            await client.signal(b"short")
        for _ in range(5):
            with await server.receive() as message:
                assert len(message.body) == 65535
                assert engine.statistics().application == 1000
            with await server.receive() as message:
                assert message.body == b"short"


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
        await until(lambda: all(connection_of(channel).senders for channel in pair))
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


# --- what is told ----------------------------------------------------------------------------


async def test_every_permit_is_with_one_of_those_who_can_have_it(both_ends: Connect) -> None:
    engine = tofu.Engine(10)
    async with across(both_ends, tofu.Engine(), engine) as (client, server):
        for _ in range(5):
            await client.signal(bytes(100))
        await until(lambda: len(server._mailbox.items) == 5)
        taken = [await server.receive() for _ in range(2)]
        made = engine.get(Allocation.POOL_ONLY)
        now = engine.statistics()
        assert (now.inbox, now.application, now.outgoing, now.pool_free) == (3, 3, 0, 4)
        assert now.held_bytes == 3 * 116
        assert server.statistics().held == 5
        assert not server.statistics().suspended
        connection_of(server).pause_writing()
        server.post(taken.pop())
        now = engine.statistics()
        assert (now.inbox, now.application, now.outgoing, now.pool_free) == (3, 2, 1, 4)
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
            assert (now.pool_free, now.inbox, now.outgoing) == (4 - out, 0, 0)
            assert now.application == out, "in nobody's hands that this engine knows"
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
    """Though it is more than its share: nobody waits, and there is room."""
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
        assert (before.held, before.suspensions, before.triggers) == (1, 1, Triggers.POOL)
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
        tofu.Engine(3) as engine,
        sending.create_group() as mine,
        engine.create_group() as theirs,
        both_ends(mine, theirs) as (client, server),
        both_ends(mine, theirs) as (other, waits),
    ):
        for _ in range(3):
            await client.signal()
        kept = [await server.receive()]
        kept.append(await server.receive())
        await other.signal()
        await other.signal()

        def said_by_us() -> list[str]:
            return [r.getMessage() for r in caplog.records if r.name.startswith("tofu_aio")]

        await until(said_by_us)
        (said,) = said_by_us()
        assert said.startswith("1 channel waits for permits of the pool, and none was served")
        assert "of 3 the application holds 2, inboxes and what has come in part hold 1" in said
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


# --- water marks -----------------------------------------------------------------------------


@pytest.mark.parametrize("high", [10_000, 500_000])
async def test_sending_waits_at_the_high_water_mark(both_ends: Connect, high: int) -> None:
    engine = tofu.Engine(1)
    async with across(both_ends, tofu.Engine(write_high_water=high), engine) as (client, server):
        flooding = asyncio.create_task(flood(client, bytes(5_000)))
        await until(lambda: connection_of(client).senders)
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
        transport: Any = connection_of(client)._transport
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
    await until(lambda: task.done() or connection_of(client).senders)
    assert not task.done()
    assert connection_of(client).queued_bytes <= 2 * WRITE_HIGH_WATER + HEADER_SIZE + MAX_PART
    task.cancel()
    client.abort()
    server.abort()

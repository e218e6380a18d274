"""Peers that send without end or never read: memory stays within the bound that is documented."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, connection_of, frame, held_up, hello, until
from tests.systems import needs_tracing
from tofu_aio.transport.limits import WRITE_HIGH_WATER

POOL = 8
CHUNK = 256 * 1024
LARGEST = 131_086
ALIVE = 1 + POOL // 2
"""Messages of one channel: its reserve, and its share of the pool."""
BOUND = ALIVE * LARGEST + 2 * CHUNK
"""Of one channel that is flooded; docs/design/messaging.md says it for all."""


async def flood(peer: RawPeer, data: bytes) -> None:
    """Send for ever."""
    with contextlib.suppress(ConnectionError):
        while True:
            await asyncio.get_running_loop().sock_sendall(peer.sock, data)


@contextlib.asynccontextmanager
async def flooding(listener: tofu.Listener, data: bytes):
    with await RawPeer.connect(listener.address) as peer:
        await peer.send(hello())
        channel = await listener.accept()
        task = asyncio.create_task(flood(peer, data))
        try:
            yield channel
        finally:
            task.cancel()
            await asyncio.wait([task])
        channel.abort()


@pytest.mark.parametrize("size", [0, 64, 60_000])
async def test_who_sends_and_never_stops_is_held_to_the_bound(
    listener: tofu.Listener, engine: tofu.Engine, size: int
) -> None:
    """Nobody receives: the sender ends up waiting for the kernel, with nothing more taken."""
    needs_tracing()
    gc.collect()
    tracemalloc.start()
    try:
        async with flooding(listener, frame(body=bytes(size)) * (CHUNK // (16 + size))) as channel:
            await until(lambda: held_up(engine) == 1)
            held = connection_of(channel).decoder.held
            for _ in range(200):
                await asyncio.sleep(0)
            assert connection_of(channel).decoder.held <= 2 * CHUNK
            assert channel.statistics().received == ALIVE + 1  # with the Hello
            # The flood's own data and what tracing sees of asyncio come on top.
            assert tracemalloc.get_traced_memory()[1] < BOUND + 2 * CHUNK + 1_000_000, held
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("body", [b"", bytes(60_000)])
async def test_who_asks_and_never_reads_the_answers_is_held_to_the_high_water_mark(
    listener: tofu.Listener, engine: tofu.Engine, body: bytes
) -> None:
    """An answer waits for room; the answers that wait stay within the mark and one message."""
    most = 0

    async def answer(channel: tofu.Channel) -> None:
        nonlocal most
        with contextlib.suppress(tofu.ChannelClosed):
            while True:
                with await channel.receive() as request:
                    await channel.reply(request, bytes(60_000))
                most = max(most, channel.statistics().queued_bytes)

    async with flooding(listener, frame(body=body) * 64) as channel:
        answering = asyncio.create_task(answer(channel))
        await until(lambda: connection_of(channel).queue.senders_waiting)
        await until(lambda: held_up(engine) == 1)
        for _ in range(200):
            await asyncio.sleep(0)
        assert most <= 2 * WRITE_HIGH_WATER + 60_016
    await answering


async def test_a_flood_that_is_answered_in_time_stands_in_nobodys_way(
    listener: tofu.Listener, group: tofu.ChannelGroup
) -> None:
    """Permits go to who waits longest, so an honest client is served meanwhile."""

    async def drain(channel: tofu.Channel) -> None:
        with contextlib.suppress(tofu.ChannelClosed):
            while True:
                (await channel.receive()).release()

    async with flooding(listener, frame(body=b"x") * 64) as channel:
        draining = asyncio.create_task(drain(channel))
        honest, theirs = await asyncio.gather(group.connect(listener.address), listener.accept())
        for number in range(50):
            asking = asyncio.create_task(honest.request(b"%d" % number))
            with await theirs.receive() as request:
                await theirs.reply(request, request.body)
            (await asking).release()
        # The flood goes on with every turn of the loop, and never takes a turn for itself.
        assert 50 < channel.statistics().received < 50_000
        await asyncio.gather(honest.aclose(), theirs.aclose())
    await draining

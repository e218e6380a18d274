"""Thousands of connects and disconnects, orderly and not, leave nothing, and memory stays flat."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

import tofu_aio as tofu
from tests.conftest import open_descriptors
from tests.faults.counting import COUNTS, FULL
from tests.messaging.peers import RawPeer, hello, turns, until
from tests.systems import needs_tracing, on_a_proactor
from tofu_aio import OpCode
from tofu_aio.messaging.numbers import RESERVED

CONNECTS = 10_000 if FULL else 1_000
AT_ONCE = 20
MARGIN = 100_000
"""Bytes that caches may grow by: ten a connect in the full run, and no object is so small."""

Visit = Callable[[tofu.ChannelGroup, tofu.Address], Awaitable[object]]


async def graceful(group: tofu.ChannelGroup, where: tofu.Address) -> None:
    async with await group.connect(where) as channel:
        (await channel.request(b"?")).release()


async def aborted(group: tofu.ChannelGroup, where: tofu.Address) -> None:
    channel = await group.connect(where)
    (await channel.request(b"?")).release()
    channel.abort()


async def dropped_by_the_server(group: tofu.ChannelGroup, where: tofu.Address) -> None:
    async with await group.connect(where) as channel:
        channel.post(tofu.Message(OpCode.SIGNAL, b"reset me"))
        with contextlib.suppress(tofu.PeerDisconnected):
            await channel.request(b"?")


async def cancelled(group: tofu.ChannelGroup, where: tofu.Address) -> None:
    connecting = asyncio.create_task(group.connect(where))
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])


async def killed_half_way(_: tofu.ChannelGroup, where: tofu.Address) -> None:
    with await RawPeer.connect(where) as peer:
        await peer.send(hello(where)[:20])
        await peer.reset()


async def killed_when_open(_: tofu.ChannelGroup, where: tofu.Address) -> None:
    with await RawPeer.introduced(where) as peer:
        await peer.send(hello(where)[:20])
        await peer.reset()


async def refused(group: tofu.ChannelGroup, where: tofu.Address) -> None:
    with pytest.raises(tofu.ConnectFailed):
        await group.connect("tcp://127.0.0.1:1")


VISITS: list[Visit] = [
    graceful,
    graceful,
    aborted,
    dropped_by_the_server,
    cancelled,
    killed_half_way,
    killed_when_open,
    refused,
]


def visits_here() -> list[Visit]:
    """asyncio's proactor leaves who goes before the accept to the garbage collection."""
    early = {cancelled, killed_half_way} if on_a_proactor() else set()
    return [visit for visit in VISITS if visit not in early]


async def host(channel: tofu.Channel) -> None:
    with contextlib.suppress(tofu.PeerDisconnected):
        async for message in channel:
            with message:
                if message.body == b"reset me":
                    channel.abort()
                    return
                await channel.reply(message)


def memory() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.timeout(900)
async def test_connects_and_disconnects_leave_nothing(
    engine: tofu.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flat: the last tenth ends with no more memory than the first did, but for a margin.

    The first tenth is repeated until as many numbers rest as may. Debug mode is off, for it keeps
    where things were made.
    """
    needs_tracing()
    asyncio.get_running_loop().set_debug(False)
    all_visits = visits_here()
    async with engine.create_group() as group, engine.create_group() as there:
        listener = await there.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(host))

        async def crowd(count: int) -> None:
            for start in range(0, count, AT_ONCE):
                some = range(start, min(start + AT_ONCE, count))
                visits = [all_visits[number % len(all_visits)] for number in some]
                await asyncio.gather(*(visit(group, listener.address) for visit in visits))
            await until(lambda: engine.statistics().channels == 1, "for the channels to close")
            await turns(5)  # the handlers that waited for that end

        def counts() -> tuple[int, int, int, int]:
            gc.collect()
            now = engine.statistics()
            tasks = len(asyncio.all_tasks())
            return len(open_descriptors()), tasks, now.pool_free, now.reserves

        tracemalloc.start()
        try:
            while len(engine._numbers._reserved) < RESERVED:
                await crowd(CONNECTS // 10)
            before = counts()
            first = memory()
            await crowd(CONNECTS - CONNECTS // 10)
            last = memory()
        finally:
            tracemalloc.stop()
        after = counts()
        COUNTS["connects and disconnects"] += CONNECTS
        with capsys.disabled():
            print(
                f"\nafter {CONNECTS} connects: descriptors, tasks, free permits {before} -> {after}"
                f", traced memory {first:,} -> {last:,} B",
            )
        assert after == before
        assert last - first < MARGIN, (first, last)
        await listener.aclose()
        await serving

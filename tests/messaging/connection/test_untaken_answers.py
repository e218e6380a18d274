"""Answers sent without waiting for room, to a peer that does not take them, are bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import pytest

import tofu_aio as tofu
from tests.messaging.peers import (
    RawPeer,
    connection_of,
    frame,
    settled,
    transport_of,
    until,
)
from tests.messaging.worlds import World, modern_peer, world_of
from tofu_aio import OpCode, Status
from tofu_aio.messaging.connection import send_queue as send_queue_module
from tofu_aio.protocol.op_code import MORE_BIT

HIGH_WATER = 4096
UNTAKEN = 2048
BOUND = 2 * HIGH_WATER + UNTAKEN + 4096
"""The last are the answers to messages that had been received already."""

COUNT = 10_000

Served: TypeAlias = tuple[tofu.Channel, RawPeer]


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A channel that may queue little, and its peer."""
    monkeypatch.setattr(send_queue_module, "UNTAKEN_ANSWERS", UNTAKEN)
    async with world_of("tcp", 64) as world, with_little_room(world) as pair:
        yield pair


@asynccontextmanager
async def with_little_room(world: World) -> AsyncIterator[Served]:
    """The kernel takes little as well."""
    listener = await world.listen(await world.group(write_high_water=HIGH_WATER))
    accepting = asyncio.create_task(listener.accept())
    with await modern_peer(listener.address) as peer:
        channel = await accepting
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport_of(channel).get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 4096
        )
        yield channel, peer
        channel.abort()


def refused(message_id: int) -> bytes:
    """A request that announces a length above the limit, and ends."""
    first = OpCode.REQUEST | MORE_BIT
    header = b"~whole:99999999999\r\n"
    return frame(first, b"", header, message_id=message_id) + frame(message_id=message_id)


def plain(message_id: int) -> bytes:
    """A request that is answered by leaving its exchange."""
    return frame(message_id=message_id)


async def leave_all(channel: tofu.Channel) -> None:
    """Take no channel."""
    with suppress(tofu.TofuError):
        async for request in channel:
            async with channel.stream(request):
                pass


@asynccontextmanager
async def flooded(
    served: Served, request: Callable[[int], bytes]
) -> AsyncIterator[asyncio.Task[None]]:
    """The peer sends requests, and reads nothing, until nothing moves any more."""
    channel, peer = served
    frames = b"".join(request(n) for n in range(2, COUNT))
    sending = asyncio.create_task(peer.send(frames))
    leaving = asyncio.create_task(leave_all(channel))
    await settled(channel)
    try:
        yield sending
    finally:
        sending.cancel()
        leaving.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


KINDS = pytest.mark.parametrize("request_", [refused, plain])


@KINDS
async def test_a_peer_that_does_not_take_answers_is_not_read(
    served: Served, request_: Callable[[int], bytes]
) -> None:
    channel, _ = served
    async with flooded(served, request_):
        assert channel.statistics().queued_bytes <= BOUND
        assert not transport_of(channel).is_reading()


@KINDS
async def test_once_it_does_it_gets_all_of_them(
    served: Served, request_: Callable[[int], bytes]
) -> None:
    channel, peer = served
    async with flooded(served, request_):
        for message_id in range(2, COUNT):
            answer = await peer.message()
            assert (answer.op_code, answer.message_id) == (OpCode.RESPONSE, message_id)
            assert answer.status is not Status.SUCCESS
        await until(lambda: transport_of(channel).is_reading())


async def hang_up(served: Served, sending: asyncio.Task[None]) -> None:
    """The peer goes away, with all its answers unread."""
    sending.cancel()
    await asyncio.wait([sending])
    served[1].close()


async def close_here(served: Served, _: asyncio.Task[None]) -> None:
    """This side closes, and waits no time for a Bye."""
    await served[0].aclose(timeout=0)


@KINDS
@pytest.mark.parametrize("end", [hang_up, close_here])
async def test_the_channel_ends_all_the_same(
    served: Served,
    request_: Callable[[int], bytes],
    end: Callable[[Served, asyncio.Task[None]], Awaitable[None]],
) -> None:
    channel, _ = served
    async with flooded(served, request_) as sending:
        await end(served, sending)
        await until(lambda: channel.state is tofu.State.CLOSED)
        await until(connection_of(channel).closing.done.done)
    with pytest.raises(tofu.TofuError):
        await channel.receive()


async def test_what_the_application_sends_holds_up_no_reading(served: Served) -> None:
    """Two peers that both send much would wait for each other."""
    channel, peer = served
    while channel.statistics().queued_bytes <= 10 * BOUND:
        channel.post(tofu.Message(OpCode.SIGNAL, bytes(1000)))
        await asyncio.sleep(0)
    await peer.send(frame(OpCode.SIGNAL, b"?") * 100)
    for _ in range(100):
        with await channel.receive() as message:
            assert message.body == b"?"


async def test_nor_do_answers_that_the_peer_takes(served: Served) -> None:
    channel, peer = served
    for message_id in range(2, 1000):
        await peer.send(refused(message_id))
        assert (await peer.message()).status is Status.INVALID_BODY_LEN
    assert transport_of(channel).is_reading()

"""Exchanges that are left while their parts are kept: what follows on their channel goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, RawServer, frame, settled, until
from tests.messaging.worlds import modern_peer, modern_server, world_of
from tofu_aio import Message, OpCode
from tofu_aio.messaging.exchange import Exchange
from tofu_aio.protocol.op_code import MORE_BIT

PARTS = 20

Beside: TypeAlias = Callable[[tofu.Channel], Awaitable[Any]]


@asynccontextmanager
async def kept(channel: tofu.Channel, exchange: Exchange) -> AsyncIterator[list[Message]]:
    """Receive parts, and keep all of them, until the channel waits for room."""
    parts: list[Message] = []

    async def collect() -> None:
        async for part in exchange:
            parts.append(part)  # noqa: PERF401 - they are looked at before the last one comes

    collecting = asyncio.create_task(collect())
    await settled(channel)
    assert channel.statistics().suspended
    yield parts
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)


def in_parts(op_code: OpCode, message_id: int) -> bytes:
    """More than there is room for, and the last one."""
    part = frame(op_code | MORE_BIT, b"part", message_id=message_id)
    return part * PARTS + frame(op_code, b"last", message_id=message_id)


async def a_request(channel: tofu.Channel) -> asyncio.Task[Message]:
    """It waits for its response."""
    return asyncio.create_task(channel.request())


async def another_exchange(channel: tofu.Channel) -> Exchange:
    """It is asked, and not answered."""
    exchange = channel.stream()
    await exchange.finish()
    return exchange


async def a_posted_request(channel: tofu.Channel) -> object:
    """Whose response the mailbox gets."""
    return channel.post(Message(OpCode.REQUEST))


async def nothing(_: tofu.Channel) -> None:
    """The exchange is alone."""


@pytest.mark.parametrize("beside", [nothing, a_request, another_exchange, a_posted_request])
async def test_the_rest_of_an_answer_that_was_left_needs_no_room(
    raw_server: RawServer, beside: Beside
) -> None:
    async with world_of("tcp", 8) as world:
        channel, peer = await modern_server(await world.group(), raw_server)
        with peer:
            exchange = await another_exchange(channel)
            asked = await peer.message()
            other = await beside(channel)
            await peer.send(in_parts(OpCode.RESPONSE, asked.message_id))
            async with kept(channel, exchange) as parts:
                await exchange.aclose()
                dropped = PARTS + 1 - len(parts)
                assert dropped > 1
                await until(lambda: channel.statistics().late_responses == dropped)
                assert not channel.statistics().suspended
            if isinstance(other, asyncio.Task):
                await peer.send(frame(OpCode.RESPONSE, b"!", message_id=await asked_next(peer)))
                assert (await other).body == b"!"
            channel.abort()
            parts.clear()
            del exchange, other


async def asked_next(peer: RawPeer) -> int:
    """The id of the next request."""
    return (await peer.message()).message_id


async def test_the_rest_of_a_request_that_was_left_needs_no_room() -> None:
    async with world_of("tcp", 8) as world:
        listener = await world.listen()
        accepting = asyncio.create_task(listener.accept())
        with await modern_peer(listener.address) as peer:
            channel = await accepting
            await peer.send(in_parts(OpCode.REQUEST, 9))
            exchange = channel.stream(await channel.receive())
            async with kept(channel, exchange) as parts:
                asking = await a_request(channel)
                await peer.send(frame(OpCode.RESPONSE, b"!", message_id=await asked_next(peer)))
                await exchange.aclose()
                assert (await asking).body == b"!"
            parts.clear()
            channel.abort()

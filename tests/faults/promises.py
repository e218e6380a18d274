"""What a promise is made of: a case sets things up, yields a coroutine, and judges its outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import tofu_aio as tofu
from tests.faults.stepping import Outcome
from tests.messaging.peers import PATIENCE, Pair
from tests.messaging.posting.test_posted import Ends, listening, opened
from tofu_aio import OpCode


class World(NamedTuple):
    """Where a case takes place: the engine of who is cancelled, and its peer's."""

    engine: tofu.Engine
    group: tofu.ChannelGroup
    there: tofu.Engine
    peers: tofu.ChannelGroup

    async def pair(self) -> Pair:
        """A channel; its client is of the group that is cancelled."""
        async with await self.peers.listen("tcp://127.0.0.1:0") as listener:
            return Pair(
                *await asyncio.gather(self.group.connect(listener.address), listener.accept())
            )

    async def posted_pair(self) -> Ends:
        """A channel between the groups' mailboxes."""
        number, where = await listening(self.peers, "tcp://127.0.0.1:0")
        return Ends(
            self.group, self.peers, *await opened(self.group, self.peers, where), number, where
        )


Promise: TypeAlias = AsyncGenerator[Coroutine[Any, Any, Any], Outcome]
Case: TypeAlias = Callable[[World], Promise]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Two engines with small pools. Closing them is bounded, and leaves nothing."""
    async with tofu.Engine(4) as engine, tofu.Engine(4) as there:
        yield World(engine, engine.create_group(), there, there.create_group())
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(engine.aclose(), there.aclose())
    for each in (engine, there):
        left = each.statistics()
        assert (left.pool_free, left.reserves, left.joining_bytes) == (left.pool_size, 0, 0), left
        assert (left.waiting, left.over_share, left.channels) == (0, 0, 0), left


def item(body: bytes = b"", *, op_code: OpCode = OpCode.SIGNAL) -> tofu.Message:
    return tofu.Message(op_code, body)


async def all_of(channel: tofu.Channel) -> list[bytes]:
    """Receive to the end, whatever it is."""
    bodies = []
    with contextlib.suppress(tofu.ChannelEnded, tofu.PeerDisconnected, tofu.ChannelClosed):
        while True:
            with await channel.receive() as message:
                bodies.append(message.body)
    return bodies


def bodies_of(outcome: Outcome) -> list[bytes]:
    """What a receive brought, if it did."""
    if not outcome.completed:
        return []
    with outcome.result as message:
        return [message.body]


async def echo(channel: tofu.Channel) -> None:
    """Answer each request until the peer leaves."""
    with contextlib.suppress(tofu.PeerDisconnected):
        async for message in channel:
            with message:
                await channel.reply(message, message.body)


async def finished(*tasks: asyncio.Task[Any]) -> list[Any]:
    """The results of helpers, once they have ended."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*tasks)

"""Programs that talk to each other, on engines of any size that must end as they began."""

from __future__ import annotations

import asyncio
import gc
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.messaging.certificates import client_context, server_context
from tests.messaging.peers import PATIENCE, RawPeer, RawServer, frame
from tests.systems import WINE
from tofu_aio import OpCode

Handler: TypeAlias = Callable[[tofu.Channel], Awaitable[object]]

WORLDS: Final = [
    ("tcp", None),
    ("tcp", 1),
    ("tls", 1),
    ("uds", 2),
    ("tls", 3),
    ("tcp", 4),
]
"""How the programs talk, and the messages in the pool of each engine; None is the default."""


class World:
    """What the programs of one test share. All of it is gone at its end, and given back.

    Args:
        stack: closes what is opened.
        kind: how the programs talk: "tcp", "uds" or "tls".
        pool: messages of each engine; None for the default.
        alone: whether all programs share one engine.
    """

    def __init__(
        self, stack: AsyncExitStack, kind: str, pool: int | None, *, alone: bool = False
    ) -> None:
        self.engines: list[tofu.Engine] = []
        self.pool = pool
        self._stack = stack
        self._kind = kind
        self._alone = alone
        self._numbers = itertools.count()
        self._folder = ""
        if kind == "uds":
            if not HAS_UDS:
                pytest.skip("this Python has no Unix sockets on this system")
            self._folder = stack.enter_context(tempfile.TemporaryDirectory("tofu", dir="/tmp"))

    @property
    def size(self) -> int:
        """Messages of each pool."""
        return self.engines[0].statistics().pool_size

    def address(self) -> str:
        """Another one to listen on."""
        if self._kind == "uds":
            return f"uds://{self._folder}/{next(self._numbers)}"
        return "tcp://127.0.0.1:0"

    async def group(self, **limits: Any) -> tofu.ChannelGroup:
        """What a program has: an engine, unless all share one, and a group."""
        if not self._alone or not self.engines:
            if self.pool is not None:
                limits = {"pool_messages": self.pool, **limits}
            engine = await self._stack.enter_async_context(tofu.Engine(**limits))
            self.engines.append(engine)
        return await self._stack.enter_async_context(self.engines[-1].create_group())

    async def listen(self, group: tofu.ChannelGroup | None = None) -> tofu.Listener:
        """A listener of this group, or of a new one."""
        options = {"ssl": server_context()} if self._kind == "tls" else {}
        listening = (group or await self.group()).listen(self.address(), **options)
        return await self._stack.enter_async_context(await listening)

    async def serve(self, handler: Handler, group: tofu.ChannelGroup | None = None) -> tofu.Address:
        """Serve in this group, or in a new one; the address to connect to."""
        listener = await self.listen(group)
        self.spawn(listener.serve(handler))
        return listener.address

    async def connect(
        self, address: tofu.Address, group: tofu.ChannelGroup | None = None, **options: Any
    ) -> tofu.Channel:
        """A channel of this group, or of a new one. It is aborted at the end."""
        if self._kind == "tls":
            options["ssl"] = client_context()
        channel = await (group or await self.group()).connect(address, **options)
        self._stack.callback(channel.abort)
        return channel

    def spawn(self, what: Any) -> asyncio.Task[Any]:
        """Run it until the end of the test, unless it ends before."""
        task = asyncio.create_task(what)
        self._stack.push_async_callback(_ended, task)
        return task


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def world_of(kind: str, pool: int | None, *, alone: bool = False) -> AsyncIterator[World]:
    """Programs that must finish, and then have nothing left of any engine's."""
    engines = []
    async with asyncio.timeout((8 if WINE else 2) * PATIENCE):
        async with AsyncExitStack() as stack:
            world = World(stack, kind, pool, alone=alone)
            engines = world.engines
            yield world
        del world
    for engine in engines:
        check_all_back(engine)


def check_all_back(engine: tofu.Engine) -> None:
    """Nothing of the engine's is taken: no permit, no reserve, no room for long bodies."""
    gc.collect()
    left = engine.statistics()
    assert (left.pool_free, left.reserves) == (left.pool_size, 0), "permits left behind"
    assert (left.joining_bytes, left.held_bytes, left.awaited) == (0, 0, 0), "bytes left behind"
    assert (left.channels, left.waiting, left.over_share) == (0, 0, 0), "channels left behind"


async def echo(channel: tofu.Channel) -> None:
    """Answer each request with its own body."""
    async for request in channel:
        await channel.reply(request, request.body)


async def ask_all(channel: tofu.Channel, count: int) -> None:
    """Ask so often, all at once, and compare."""
    answers = await asyncio.gather(*(channel.request(b"%d" % n) for n in range(count)))
    assert [answer.body for answer in answers] == [b"%d" % n for n in range(count)]


async def modern_peer(address: tofu.Address) -> RawPeer:
    """One that speaks by hand, and has said that it knows this library's extensions."""
    peer = await RawPeer.connect(address)
    where = address.to_header()
    headers = f"~connect_to:{where}\r\n~supports:cancel,whole,drain\r\n".encode()
    await peer.send(frame(OpCode.HELLO_REQUEST, headers=headers))
    assert (await peer.message()).op_code is OpCode.HELLO_RESPONSE
    return peer


async def modern_server(
    group: tofu.ChannelGroup, server: RawServer
) -> tuple[tofu.Channel, RawPeer]:
    """The same as a server, and a channel to it."""

    async def connect() -> tofu.Channel:
        return await group.connect(server.address)

    connecting = asyncio.create_task(connect())
    peer = await server.accept()
    hello = await peer.message()
    headers = b"~supports:cancel,whole,drain\r\n"
    await peer.send(frame(OpCode.HELLO_RESPONSE, headers=headers, message_id=hello.message_id))
    return await connecting, peer

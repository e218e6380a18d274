"""Both processes of many idle connections: ``idle_peers ROLE CONTENDER LOOP [PORT]``.

A server prints its port and ends when its stdin does; a client makes as many connections as each
line of its stdin says, prints a line when they are open, and ends likewise.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import cast

import tofu_aio as tofu
from tests.benchmarks import processes

AT_ONCE = 50
"""Connections that are being made at a time."""

Connect = Callable[[], Awaitable[object]]
Serve = Callable[[tofu.Listener], Coroutine[object, object, None]]


async def listen_tofu(stack: AsyncExitStack, serve: Serve) -> int:
    engine = await stack.enter_async_context(tofu.Engine())
    group = engine.create_group()
    listener = await group.listen("tcp://127.0.0.1:0")
    stack.callback(asyncio.create_task(serve(listener)).cancel)
    assert isinstance(listener.address, tofu.TcpAddress)
    return listener.address.port


async def accept(listener: tofu.Listener) -> None:
    """Accept them; the group keeps them."""
    async for _ in listener:
        pass


async def handle(listener: tofu.Listener) -> None:
    """With a task for each that waits for its messages."""

    async def receive(channel: tofu.Channel) -> None:
        async for _ in channel:
            pass

    await listener.serve(receive)


async def connect_tofu(stack: AsyncExitStack, port: int) -> Connect:
    engine = await stack.enter_async_context(tofu.Engine())
    group = engine.create_group()
    return lambda: group.connect(f"tcp://127.0.0.1:{port}")


class Bare(asyncio.Protocol):
    """As little as an asyncio connection can be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


async def serve_bare(stack: AsyncExitStack) -> int:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0, backlog=1024)
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def connect_bare(stack: AsyncExitStack, port: int) -> Connect:
    loop = asyncio.get_running_loop()
    return lambda: loop.create_connection(Bare, "127.0.0.1", port)


def websockets(**options: object) -> tuple[object, object]:
    """A server that only listens to its connections, and a client; with options for both."""

    async def serve(stack: AsyncExitStack) -> int:
        from websockets.asyncio.server import ServerConnection, serve

        async def handle(connection: ServerConnection) -> None:
            async for _ in connection:
                pass

        server = await serve(handle, "127.0.0.1", 0, backlog=1024, **options)  # type: ignore[arg-type]
        stack.callback(server.close)
        port: int = next(iter(server.sockets)).getsockname()[1]
        return port

    async def connect(stack: AsyncExitStack, port: int) -> Connect:
        from websockets.asyncio.client import connect

        async def one() -> object:
            return await connect(f"ws://127.0.0.1:{port}", **options)  # type: ignore[arg-type]

        return one

    return serve, connect


ROLES = {
    "tofu": (partial(listen_tofu, serve=accept), connect_tofu),
    "handled": (partial(listen_tofu, serve=handle), connect_tofu),
    "bare": (serve_bare, connect_bare),
    "websockets": websockets(),
    "plain": websockets(compression=None),
}


async def serve(contender: str) -> None:
    """Until stdin ends."""
    async with AsyncExitStack() as stack:
        print(await ROLES[contender][0](stack), flush=True)  # type: ignore[operator]
        await asyncio.to_thread(sys.stdin.read)


async def load(contender: str, port: int) -> None:
    """More connections for each line."""
    async with AsyncExitStack() as stack:
        connect = await ROLES[contender][1](stack, port)  # type: ignore[operator]
        connections: list[object] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            missing = int(line)
            while missing:
                count = min(missing, AT_ONCE)
                connections += await asyncio.gather(*(connect() for _ in range(count)))
                missing -= count
            gc.collect()
            print(len(connections), flush=True)


def main() -> None:
    """Run one role to its end."""
    role, contender, loop, *port = sys.argv[1:]
    processes.check_variant()
    processes.allow_descriptors()
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run(serve(contender) if role == "server" else load(contender, int(port[0])))


if __name__ == "__main__":
    main()

"""Both processes of a benchmark: ``peers.py ROLE CONTENDER LOOP CPU [PORT WINDOW SIZE SECONDS]``.

A server prints its port; a client prints a JSON object with what it measured. Both end by
themselves: the server when its one client has gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import tofu_aio as tofu


@dataclass(frozen=True)
class Load:
    """What a client does."""

    port: int
    window: int
    size: int
    seconds: float


@dataclass
class Meter:
    """Counts echoes between a warm-up and the end of the time."""

    seconds: float
    count: int = 0
    begun: float = 0.0
    ended: float = 0.0

    def start(self) -> None:
        """After the warm-up."""
        self.count = 0
        self.begun = time.perf_counter()

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        self.ended = time.perf_counter()
        return self.ended - self.begun >= self.seconds

    def rate(self) -> float:
        """Echoes a second."""
        return self.count / (self.ended - self.begun)


CHECK_EVERY = 256
"""Looking at the clock for each echo would be part of what is measured."""


async def serve_tofu(announce: Callable[[int], None]) -> None:
    """Echo through the stream face."""
    async with tofu.Engine(pool_messages=256) as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        assert isinstance(listener.address, tofu.TcpAddress)
        announce(listener.address.port)
        async with await listener.accept() as channel:
            async for message in channel:
                await channel.reply(message, message.body)


async def load_tofu(load: Load, meter: Meter) -> None:
    """Keep ``window`` requests under way through the stream face."""
    request = tofu.Message(tofu.OpCode.REQUEST, bytes(load.size))
    async with tofu.connect(f"tcp://127.0.0.1:{load.port}", pool_messages=256) as channel:
        for _ in range(load.window):
            await channel.send(request)
        async for _ in channel:
            meter.count += 1
            if meter.count % CHECK_EVERY == 0:
                if not meter.begun:
                    meter.start()
                elif meter.over:
                    return
            await channel.send(request)


class BareServer(asyncio.Protocol):
    """Echoes bytes as they come, without framing: the limit of the loop."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is not one

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


class BareClient(asyncio.Protocol):
    """Sends as many whole messages as have come back."""

    def __init__(self, load: Load, meter: Meter, done: asyncio.Future[None]) -> None:
        self.load, self.meter, self.done = load, meter, done
        # The same bytes on the wire: a message has a header of 16.
        self.frame = bytes(16 + load.size)
        self.partial = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.frame * self.load.window)

    def data_received(self, data: bytes) -> None:
        whole, self.partial = divmod(self.partial + len(data), len(self.frame))
        before, self.meter.count = self.meter.count, self.meter.count + whole
        if before // CHECK_EVERY != self.meter.count // CHECK_EVERY:
            if not self.meter.begun:
                self.meter.start()
            elif self.meter.over and not self.done.done():
                self.done.set_result(None)
                self.transport.close()
                return
        self.transport.write(self.frame * whole)


async def serve_bare(announce: Callable[[int], None]) -> None:
    """Echo bytes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    server = await loop.create_server(lambda: BareServer(done), "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await done
    server.close()


async def load_bare(load: Load, meter: Meter) -> None:
    """Keep ``window`` messages' bytes under way."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    await loop.create_connection(lambda: BareClient(load, meter, done), "127.0.0.1", load.port)
    await done


SERVERS: dict[str, Callable[[Callable[[int], None]], Awaitable[None]]] = {
    "tofu": serve_tofu,
    "bare": serve_bare,
}
LOADS: dict[str, Callable[[Load, Meter], Awaitable[None]]] = {
    "tofu": load_tofu,
    "bare": load_bare,
}


def main() -> None:
    """Run one role to its end."""
    role, contender, loop, cpu, *rest = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(cpu)]})

    async def serve() -> None:
        await SERVERS[contender](lambda port: print(port, flush=True))

    async def load() -> None:
        port, window, size, seconds = rest
        meter = Meter(float(seconds))
        await LOADS[contender](Load(int(port), int(window), int(size), float(seconds)), meter)
        print(json.dumps({"rate": meter.rate()}))

    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run(serve() if role == "server" else load())


if __name__ == "__main__":
    main()

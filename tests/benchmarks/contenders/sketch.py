"""A stream of messages without any promise: the least that a face like ours can cost in Python.

The same frames and the same loops over messages on both sides, and the structure that proved
fastest: one buffer for all reads, portions of a chunk, one pass over each, who waits goes on within
it, one write for what was answered. No pool, no states, no limits, no errors, no checks of what is
sent or received, no numbers, no other faces; a body in two chunks is put together by copying. What
this does not reach, no framing in Python can that keeps a promise besides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar, cast

from tests.benchmarks.contenders.streams import HEADER
from tests.benchmarks.load import Load, Meter

T = TypeVar("T")

BUFFER = memoryview(bytearray(256 * 1024))
PORTION = 32


class Received(Protocol):
    """What a message has at least."""

    message_id: int
    body: bytes


class Message:
    """One with nothing else."""

    __slots__ = ("body", "message_id")
    message_id: int
    body: bytes


class Channel(asyncio.BufferedProtocol):
    """Both sides of one."""

    def __init__(self) -> None:
        self.left_over = b""
        self.items: deque[Received] = deque()
        self.out = bytearray()
        self.receiver: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, _: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        data = BUFFER[:nbytes].tobytes()
        if self.left_over:
            data = self.left_over + data
        at, end, portion = 0, len(data), PORTION
        unpack, new = HEADER.unpack_from, Message.__new__
        while True:
            batch: list[Message] = []
            left = portion
            while left and at + 16 <= end:
                _, _, _, message_id, _, size = unpack(data, at)
                stop = at + 16 + size
                if stop > end:
                    break
                message = new(Message)
                message.message_id = message_id
                message.body = data[at + 16 : stop]
                batch.append(message)
                at = stop
                left -= 1
            self.received(batch)
            self.flush()
            if left:
                break
            portion *= 2
        self.left_over = data[at:]

    def received(self, batch: Iterable[Received]) -> None:
        """Whoever waits takes them."""
        self.items.extend(batch)
        if self.receiver is not None and self.items:
            run_wake_ups(self.receiver, None)

    def flush(self) -> None:
        """One write for all that was answered."""
        if self.out:
            out, self.out = self.out, bytearray()
            self.transport.write(out)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.receiver is not None and not self.receiver.done():
            self.receiver.set_exception(ConnectionResetError())

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> Received:
        if not self.items:
            self.receiver = self.loop.create_future()
            await self.receiver
            self.receiver = None
        return self.items.popleft()

    async def send(self, message_id: int, body: bytes) -> None:
        """Queue a message."""
        out = self.out
        out += HEADER.pack(0, 0, 0, message_id, 0, len(body))
        out += body


def run_wake_ups(waiting: asyncio.Future[T], result: T) -> None:
    """Continue who waits, there and then."""
    ((step, context),) = waiting._callbacks
    waiting.remove_done_callback(step)
    waiting.set_result(result)
    context.run(step, waiting)


async def echo(channel: Channel) -> None:
    """Until the client has gone."""
    try:
        async for message in channel:
            await channel.send(message.message_id, message.body)
    except ConnectionResetError:
        channel.transport.abort()


def serve(load: Load) -> AbstractAsyncContextManager[int]:
    """Echo messages."""
    return serving(Channel)


@asynccontextmanager
async def serving(make: Callable[[], Channel]) -> AsyncIterator[int]:
    """A task for each connection."""
    tasks = set()

    def accept() -> Channel:
        channel = make()
        tasks.add(asyncio.create_task(echo(channel)))
        return channel

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.wait(tasks)


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    await driving(Channel, load, port, meter)


async def driving(make: Callable[[], Channel], load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    _, channel = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    body = bytes(load.size)
    left = meter.lap()
    for message_id in range(1, load.window + 1):
        await channel.send(message_id, body)
    channel.flush()
    async for message in channel:
        left -= 1
        if not left and not (left := meter.lap()):
            break
        await channel.send(message.message_id, body)
    channel.transport.abort()

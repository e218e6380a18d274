"""The processes of a fan-out: ``fanout_peers publisher|subscribers CONTENDER LOAD [COUNT]``.

A publisher prints a line when it listens. For a line on its stdin it publishes, and prints how many
messages that were. Subscribers print a line when they are there, and when their stdin ends, how
late they got each message.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, TypeAlias

import tofu_aio as tofu
from tests.benchmarks import processes

STAMP = struct.Struct(">QQ")
"""A message's number and the time at which it was published, in nanoseconds."""

FILLING, FILLER = 8, 60_000
"""Messages that are published first and do not count, and their size in bytes: after these, the
channels of subscribers that have stopped take nothing more."""

PAUSE = 2.0
"""Seconds after them, in which the others catch up; and after the last message."""


@dataclass(frozen=True)
class Load:
    """What is published.

    Attributes:
        path: of the Unix socket. Its kernel buffers are small, so who stops is soon noticed.
        size: of a message, in bytes.
        rate: messages a second.
        seconds: for which messages are published that count.
    """

    path: str
    size: int
    rate: float
    seconds: float

    @property
    def count(self) -> int:
        """How many messages count."""
        return int(self.seconds * self.rate)

    def due(self, number: int) -> float:
        """When a message is due, in seconds. The first that counts has the number FILLING."""
        return number / self.rate + (PAUSE if number >= FILLING else 0)

    @property
    def whole(self) -> float:
        """Seconds that it all takes."""
        return self.due(FILLING + self.count) + PAUSE

    def to_json(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))


@dataclass
class Seen:
    """What the subscribers of a process got, of the messages that count.

    Attributes:
        load: what is published.
        delays: in milliseconds.
    """

    load: Load
    delays: list[float] = field(default_factory=list)

    def note(self, body: bytes) -> None:
        """One of them got a message."""
        now = time.monotonic_ns()
        number, then = STAMP.unpack_from(body)
        if number >= FILLING:
            self.delays.append((now - then) / 1e6)


Publish: TypeAlias = Callable[[bytes], Awaitable[object]]
Publisher: TypeAlias = Callable[[Load], AbstractAsyncContextManager[Publish]]
Subscribe: TypeAlias = Callable[[Load, int, Seen, AsyncExitStack], Awaitable[None]]


class Contender(NamedTuple):
    """Who fans out.

    Attributes:
        publisher: a block in which messages can be published.
        subscribe: makes so many subscribers, which receive until the stack is left.
    """

    publisher: Publisher
    subscribe: Subscribe


# --- a topic -------------------------------------------------------------------------------


@asynccontextmanager
async def topic_publisher(load: Load) -> AsyncIterator[Publish]:
    topic = tofu.Topic()
    service = tofu.Service()
    service.topic("t", topic)
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(f"uds://{load.path}")
        serving = asyncio.create_task(listener.serve(service.handle))
        yield topic.send
        serving.cancel()
        await asyncio.wait([serving])


async def topic_subscribe(load: Load, count: int, seen: Seen, stack: AsyncExitStack) -> None:
    client = await stack.enter_async_context(tofu.Client(f"uds://{load.path}", streams=count))

    async def receive() -> None:
        async for event in client.subscribe("t", item=bytes):
            seen.note(event.value)

    tasks = [asyncio.create_task(receive()) for _ in range(count)]
    stack.callback(lambda: [task.cancel() for task in tasks])


# --- a loop over the channels ---------------------------------------------------------------


@asynccontextmanager
async def loop_publisher(load: Load) -> AsyncIterator[Publish]:
    channels: list[tofu.Channel] = []

    async def handle(channel: tofu.Channel) -> None:
        channels.append(channel)
        async for _ in channel:
            pass

    async def publish(body: bytes) -> None:
        for channel in channels:
            await channel.signal(body)

    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(f"uds://{load.path}")
        serving = asyncio.create_task(listener.serve(handle))
        yield publish
        for channel in channels:
            channel.abort()
        serving.cancel()
        await asyncio.wait([serving])


async def loop_subscribe(load: Load, count: int, seen: Seen, stack: AsyncExitStack) -> None:
    engine = await stack.enter_async_context(tofu.Engine())
    group = engine.create_group()

    async def receive(channel: tofu.Channel) -> None:
        async for message in channel:
            with message:
                seen.note(message.body)

    channels = [await group.connect(f"uds://{load.path}") for _ in range(count)]
    tasks = [asyncio.create_task(receive(channel)) for channel in channels]
    stack.callback(lambda: [task.cancel() for task in tasks])


# --- pyzmq ---------------------------------------------------------------------------------


@asynccontextmanager
async def zmq_publisher(load: Load) -> AsyncIterator[Publish]:
    import zmq
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.PUB) as socket:
        socket.linger = 0
        socket.bind(f"ipc://{load.path}")
        yield socket.send


async def zmq_subscribe(load: Load, count: int, seen: Seen, stack: AsyncExitStack) -> None:
    import zmq
    import zmq.asyncio

    context = stack.enter_context(zmq.asyncio.Context())

    async def receive(socket: zmq.asyncio.Socket) -> None:
        while True:
            seen.note(await socket.recv())

    for _ in range(count):
        socket = stack.enter_context(context.socket(zmq.SUB))
        socket.linger = 0
        socket.connect(f"ipc://{load.path}")
        socket.subscribe(b"")
        stack.callback(asyncio.create_task(receive(socket)).cancel)


CONTENDERS = {
    "topic": Contender(topic_publisher, topic_subscribe),
    "loop": Contender(loop_publisher, loop_subscribe),
    "pyzmq": Contender(zmq_publisher, zmq_subscribe),
}


# --- both roles ----------------------------------------------------------------------------


async def publish(contender: Contender, load: Load) -> None:
    """Publish at the rate, each message when it is due or as soon as the one before is out."""
    async with contender.publisher(load) as send:
        print("listening", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        published = 0
        try:
            async with asyncio.timeout(load.whole):
                async for number in when_due(load):
                    size = FILLER if number < FILLING else load.size
                    stamp = STAMP.pack(number, time.monotonic_ns())
                    await send(stamp + bytes(size - len(stamp)))
                    published += number >= FILLING
                await asyncio.sleep(PAUSE)  # until the last one is out
        except TimeoutError:
            pass  # it hangs in the middle of a message, or is late
        print(published, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def when_due(load: Load) -> AsyncIterator[int]:
    """The numbers of the messages, each when it is due."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number in range(FILLING + load.count):
        await asyncio.sleep(max(0.0, begun + load.due(number) - loop.time()))
        yield number


async def subscribe(contender: Contender, load: Load, count: int) -> None:
    """Subscribe, and receive until stdin ends."""
    seen = Seen(load)
    async with AsyncExitStack() as stack:
        await contender.subscribe(load, count, seen, stack)
        print("subscribed", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps(seen.delays), flush=True)


def main() -> None:
    """Run one role to its end."""
    role, contender, text, *count = sys.argv[1:]
    processes.allow_descriptors()
    load = Load(**json.loads(text))
    if role == "publisher":
        tofu.run(publish(CONTENDERS[contender], load))
    else:
        tofu.run(subscribe(CONTENDERS[contender], load, int(count[0])))


if __name__ == "__main__":
    main()

"""Both processes of a flood: ``flood_peers ROLE CONTENDER LOOP SECONDS LIMIT [PORT]``.

A reader prints its port, and at its end what it got, as JSON; a sender prints what it sent. LIMIT
is how many bytes the contender that has no bound of its own may take before it is stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import tofu_aio as tofu

SIZE = 65_535
"""Bytes of a message: the most that a tofu body may have, one less than 64 KiB."""

PAUSE = 0.05
"""Seconds that the reader takes for a message."""

NOTICEABLE = 0.001
"""Seconds above which a send has waited; without waiting it takes a twentieth of that."""

NOISE = os.urandom(SIZE - 8)
"""What no compression can shorten: websockets compresses unless it is told not to."""

Announce = Callable[[int], None]


@dataclass
class Sending:
    """One who sends as fast as it can.

    Attributes:
        sent: messages that ``send`` returned for.
        waited: how many of these sends had to wait.
        waiting: seconds of waiting in all.
        cut: the reader went away.
    """

    seconds: float
    sent: int = 0
    waited: int = 0
    waiting: float = 0.0
    cut: bool = False

    async def flood(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        """Send numbered messages until the time is up, then one that tells how many they were."""
        end = time.monotonic() + self.seconds
        while (begun := time.monotonic()) < end:
            await send((self.sent + 1).to_bytes(8) + NOISE)
            self.sent += 1
            took = time.monotonic() - begun
            if took > NOTICEABLE:
                self.waited += 1
                self.waiting += took
        await send(bytes(8) + self.sent.to_bytes(SIZE - 8))


@dataclass
class Reading:
    """One who takes its time, and checks that nothing is missing, doubled or out of order.

    Attributes:
        received: messages, without the last.
        in_order: each had the number that was due.
        told: how many the sender says it sent; None if its last message never came.
        stopped: it had taken too much memory.
    """

    seconds: float
    limit: int
    received: int = 0
    in_order: bool = True
    told: int | None = None
    stopped: bool = False
    _end: float = 0.0

    async def take(self, body: bytes | memoryview) -> bool:
        """Work on a message, and tell whether it was the last."""
        self._end = self._end or time.monotonic() + self.seconds
        number = int.from_bytes(body[:8])
        if not number:
            self.told = int.from_bytes(body[8:])
            return True
        self.received += 1
        self.in_order &= number == self.received
        if time.monotonic() < self._end:
            await asyncio.sleep(PAUSE)
        return False


# --- tofu --------------------------------------------------------------------------------------


async def read_tofu(reading: Reading, announce: Announce) -> None:
    """With the default pool, of which one channel may hold one half."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        assert isinstance(listener.address, tofu.TcpAddress)
        announce(listener.address.port)
        async with await listener.accept() as channel:
            async for message in channel:
                with message:
                    await reading.take(message.body)


async def send_tofu(sending: Sending, port: int) -> None:
    async with tofu.connect(f"tcp://127.0.0.1:{port}") as channel:
        await sending.flood(lambda body: channel.send(tofu.Message(tofu.OpCode.SIGNAL, body)))


# --- websockets --------------------------------------------------------------------------------


async def read_websockets(reading: Reading, announce: Announce) -> None:
    """With default settings."""
    from websockets.asyncio.server import ServerConnection, serve

    done = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        async for body in connection:
            assert isinstance(body, bytes)
            if await reading.take(body):
                break
        done.set()

    async with serve(handle, "127.0.0.1", 0) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await done.wait()


async def send_websockets(sending: Sending, port: int) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{port}", close_timeout=None) as connection:
        await sending.flood(connection.send)
        await connection.wait_closed()


# --- an asyncio.Queue between who reads and who works ------------------------------------------


async def read_queue(reading: Reading, announce: Announce) -> None:
    """One task reads all there is into a queue without a bound; another works on it."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while queue.qsize() * SIZE < reading.limit:
            queue.put_nowait(await reader.readexactly(SIZE))
        reading.stopped = True
        working.cancel()

    async def work() -> None:
        while not await reading.take(await queue.get()):
            pass

    async with await asyncio.start_server(pump, "127.0.0.1", 0) as server:
        working = asyncio.create_task(work())
        announce(server.sockets[0].getsockname()[1])
        await asyncio.wait([working])
        if reading.stopped:
            report(reading)  # at once: nobody shall wait until so much is freed


async def send_queue(sending: Sending, port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send(body: bytes) -> None:
        writer.write(body)
        await writer.drain()

    await sending.flood(send)
    writer.close()
    await writer.wait_closed()


# --- ZeroMQ ------------------------------------------------------------------------------------


async def read_zmq(reading: Reading, announce: Announce) -> None:
    """PULL with the default high-water mark, which is 1,000 messages."""
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.PULL) as socket:
        assert socket.getsockopt(zmq.RCVHWM) == 1000
        announce(socket.bind_to_random_port("tcp://127.0.0.1"))
        while not await reading.take(await socket.recv()):
            pass


async def send_zmq(sending: Sending, port: int) -> None:
    """PUSH, likewise."""
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.PUSH) as socket:
        assert socket.getsockopt(zmq.SNDHWM) == 1000
        socket.connect(f"tcp://127.0.0.1:{port}")
        await sending.flood(socket.send)
        socket.setsockopt(zmq.LINGER, -1)


READERS = {
    "tofu": read_tofu,
    "websockets": read_websockets,
    "queue": read_queue,
    "zmq": read_zmq,
}
SENDERS = {
    "tofu": send_tofu,
    "websockets": send_websockets,
    "queue": send_queue,
    "zmq": send_zmq,
}


def report(what: Reading | Sending) -> None:
    """Say it, and end at once."""
    print(json.dumps({k: v for k, v in asdict(what).items() if not k.startswith("_")}), flush=True)
    os._exit(0)


def main() -> None:
    """Run one role to its end."""
    role, contender, loop, seconds, limit, *port = sys.argv[1:]
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        if role == "reader":
            reading = Reading(float(seconds), int(limit))
            runner.run(READERS[contender](reading, lambda port: print(port, flush=True)))
            report(reading)
        sending = Sending(float(seconds))
        try:
            runner.run(SENDERS[contender](sending, int(port[0])))
        except ConnectionError:
            sending.cut = True
        report(sending)


if __name__ == "__main__":
    main()

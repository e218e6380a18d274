"""A NATS broker in a simulated world, which loses, delays and reorders messages, and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import re
from collections.abc import AsyncIterator
from itertools import count
from random import Random

INFO = b'INFO {"server_id": "simulated", "headers": true, "max_payload": 65536}\r\n'
PORT = 4222


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription with this pattern gets messages with this subject."""
    expression = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(expression, subject) is not None


class Broker:
    """Listens at port 4222 of a simulated network.

    Args:
        random: decides what is lost and delayed.
        loss: the probability that a message is lost.
        delay: seconds that a message may take at most. Only messages of one subject stay in order.
    """

    def __init__(self, random: Random, loss: float = 0, delay: float = 0) -> None:
        self.random, self.loss, self.delay = random, loss, delay
        self.lost = 0
        self.clients: set[Client] = set()
        self._server: asyncio.Server | None = None
        self._due: dict[str, float] = {}  # when the last message of each subject is delivered
        self._queue: list[tuple[float, int, Client, bytes]] = []
        self._numbers = count()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", PORT)

    async def stop(self) -> None:
        """Lose all clients, and what is under way."""
        assert self._server is not None
        self._server.close()
        self._queue.clear()
        for client in list(self.clients):
            client.writer.transport.abort()
        await asyncio.gather(*(client.over.wait() for client in list(self.clients)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(self, reader, writer)
        self.clients.add(client)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await client.serve()
        finally:
            self.clients.discard(client)
            client.over.set()
            writer.transport.abort()

    def publish(self, sender: Client, subject: str, reply: str, payload: bytes) -> None:
        """Give a message to those who subscribe, and to one member of each queue group."""
        groups: dict[str, list[tuple[Client, str]]] = {}
        for client in sorted(self.clients, key=lambda each: each.number):
            for sid, (pattern, queue) in client.subscriptions.items():
                if matches(pattern, subject):
                    groups.setdefault(queue or f"{client.number} {sid}", []).append((client, sid))
        if not groups and reply:
            status = b"NATS/1.0 503\r\n\r\n"
            for sid, (pattern, _) in sender.subscriptions.items():
                if matches(pattern, reply):
                    head = f"HMSG {reply} {sid} {len(status)} {len(status)}\r\n".encode()
                    self._deliver(sender, reply, head + status + b"\r\n")
        for members in groups.values():
            client, sid = self.random.choice(members)
            if self.loss and self.random.random() < self.loss:
                self.lost += 1
                continue
            head = f"MSG {subject} {sid} {reply + ' ' if reply else ''}{len(payload)}\r\n"
            self._deliver(client, subject, head.encode() + payload + b"\r\n")

    def _deliver(self, client: Client, subject: str, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + (self.random.uniform(0, self.delay) if self.delay else 0)
        due = self._due[subject] = max(due, self._due.get(subject, 0))
        heapq.heappush(self._queue, (due, next(self._numbers), client, message))
        loop.call_at(due, self._flush)

    def _flush(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now:
            _, _, client, message = heapq.heappop(self._queue)
            if client in self.clients:
                client.writer.write(message)


class Client:
    """A client of the broker."""

    numbers = count()

    def __init__(
        self, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = next(self.numbers)
        self.subscriptions: dict[str, tuple[str, str]] = {}
        self.writer = writer
        self.over = asyncio.Event()
        self._broker, self._reader = broker, reader

    async def serve(self) -> None:
        """Do what it says."""
        self.writer.write(INFO)
        while (line := await self._reader.readline()).endswith(b"\n"):
            match line.decode().split():
                case ["PING"]:
                    self.writer.write(b"PONG\r\n")
                case ["SUB", subject, queue, sid]:
                    self.subscriptions[sid] = subject, queue
                case ["SUB", subject, sid]:
                    self.subscriptions[sid] = subject, ""
                case ["UNSUB", sid]:
                    self.subscriptions.pop(sid, None)
                case ["PUB", subject, *reply, size]:
                    payload = (await self._reader.readexactly(int(size) + 2))[:-2]
                    self._broker.publish(self, subject, reply[0] if reply else "", payload)


@contextlib.asynccontextmanager
async def simulated(random: Random, **faults: float) -> AsyncIterator[Broker]:
    """A broker, while the block runs."""
    broker = Broker(random, **faults)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()

"""A slow line to a broker: a proxy that passes on what a program sends at a given rate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from tests.transport.nats.brokers import Broker

PIECE = 2048


class Line:
    """Passes bytes between one program and a broker.

    Attributes:
        port: where it listens.
        rate: bytes a second from the program to the broker.
        left: bytes after which the line breaks.
    """

    def __init__(self, broker: Broker) -> None:
        self.rate = self.left = float("inf")
        self._broker = broker.port
        self._tasks: list[asyncio.Task[None]] = []
        # The kernel holds little, so that what waits is in the program.
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._sock.setblocking(False)
        self.port = self._sock.getsockname()[1]

    async def run(self) -> None:
        """Accept connections, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._sock)
            reader, writer = await asyncio.open_connection("127.0.0.1", self._broker)
            self._tasks += [
                asyncio.create_task(self._up(sock, writer)),
                asyncio.create_task(self._down(reader, sock)),
            ]

    async def _up(self, sock: socket.socket, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while self.left > 0 and (piece := await loop.sock_recv(sock, PIECE)):
                await asyncio.sleep(len(piece) / self.rate)
                writer.write(piece)
                self.left -= len(piece)

    async def _down(self, reader: asyncio.StreamReader, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError), sock:
            while piece := await reader.read(65536):
                await loop.sock_sendall(sock, piece)

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sock.close()


@contextlib.asynccontextmanager
async def slow_line(broker: Broker) -> AsyncIterator[Line]:
    """A line, while the block runs."""
    line = Line(broker)
    running = asyncio.create_task(line.run())
    try:
        yield line
    finally:
        running.cancel()
        await asyncio.wait([running])
        await line.close()

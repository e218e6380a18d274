"""An asyncio protocol that echoes bytes as they come, without framing: the limit of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.benchmarks.load import Load, Meter


class Server(asyncio.Protocol):
    """Writes what it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is not one

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Sends as many whole messages as have come back."""

    def __init__(self, clients: Clients) -> None:
        self.clients, self.frame = clients, clients.frame
        self.partial = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        whole, self.partial = divmod(self.partial + len(data), len(self.frame))
        clients = self.clients
        clients.left -= whole
        while clients.left <= 0:
            lap = clients.meter.lap()
            if not lap:
                clients.finish()
                return
            clients.left += lap
        self.transport.write(self.frame * whole)


class Clients:
    """What all clients share."""

    def __init__(self, load: Load, meter: Meter) -> None:
        self.meter = meter
        # The same bytes on the wire: a message has a header of 16.
        self.frame = bytes(16 + load.size)
        self.connected: list[Client] = []
        self.left = 0
        self.done = asyncio.get_running_loop().create_future()

    def begin(self, window: int) -> None:
        """All of them."""
        self.left = self.meter.lap()
        for client in self.connected:
            client.transport.write(self.frame * window)

    def finish(self) -> None:
        """All of them."""
        if not self.done.done():
            self.done.set_result(None)
            for client in self.connected:
                client.transport.abort()


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo bytes."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep the bytes of a window under way on each connection."""
    loop = asyncio.get_running_loop()
    clients = Clients(load, meter)
    for _ in range(load.channels):
        _, client = await loop.create_connection(lambda: Client(clients), "127.0.0.1", port)
        clients.connected.append(client)
    clients.begin(load.window)
    await clients.done

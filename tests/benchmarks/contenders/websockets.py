"""websockets without what its documentation says to turn off for a fair comparison."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.load import Load, Meter


async def echo(connection: ServerConnection) -> None:
    """Until the client has gone."""
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo messages."""
    async with listen(
        echo, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None
    ) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    body = bytes(load.size)
    async with connect(
        f"ws://127.0.0.1:{port}", compression=None, ping_interval=None, max_size=None
    ) as connection:
        left = meter.lap()
        for _ in range(load.window):
            await connection.send(body)
        async for _ in connection:
            left -= 1
            if not left and not (left := meter.lap()):
                break
            await connection.send(body)
        connection.transport.abort()

"""asyncio's streams with a header of 16 bytes, as a program without a library would have it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.benchmarks.load import Load, Meter

HEADER = struct.Struct(">HBBQHH")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client has gone."""
    try:
        while True:
            header = await reader.readexactly(HEADER.size)
            *_, size = HEADER.unpack(header)
            body = await reader.readexactly(size)
            writer.write(header + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo messages."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = bytes(load.size)
    left = meter.lap()
    for number in range(load.window):
        writer.write(HEADER.pack(1, 0, 0, number, 0, len(body)) + body)
    number = load.window
    while True:
        header = await reader.readexactly(HEADER.size)
        *_, size = HEADER.unpack(header)
        await reader.readexactly(size)
        left -= 1
        if not left and not (left := meter.lap()):
            break
        number += 1
        writer.write(HEADER.pack(1, 0, 0, number, 0, len(body)) + body)
        await writer.drain()
    writer.close()

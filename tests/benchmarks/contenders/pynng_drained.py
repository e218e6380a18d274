"""pynng again, but what else has come is taken and answered at once, without asyncio."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pynng

from tests.benchmarks.contenders.pynng import open_pair
from tests.benchmarks.load import Load, Meter


async def echo(pair: pynng.Pair0) -> None:
    """Until the socket is closed."""
    with suppress(pynng.Closed):
        while True:
            await pair.asend(await pair.arecv())
            with suppress(pynng.TryAgain):
                while True:
                    pair.send(pair.recv(block=False))


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo messages."""
    with open_pair() as pair:
        listener = pair.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(echo(pair))
        yield socket.ntohs(listener.local_address.port)
    await serving


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    body = bytes(load.size)
    with open_pair() as pair:
        pair.dial(f"tcp://127.0.0.1:{port}", block=True)
        left = meter.lap()
        for _ in range(load.window):
            await pair.asend(body)
        while True:
            await pair.arecv()
            with suppress(pynng.TryAgain):
                while True:
                    left -= 1
                    if not left and not (left := meter.lap()):
                        return
                    pair.send(body)
                    pair.recv(block=False)

"""pynng, a pair of sockets with room for the window in their queues."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pynng

from tests.benchmarks.load import Load, Meter

ROOM = 1024
"""Messages in each queue: the window and more."""


def open_pair() -> pynng.Pair0:
    """A socket that never waits for room."""
    return pynng.Pair0(recv_buffer_size=ROOM, send_buffer_size=ROOM)


async def echo(pair: pynng.Pair0) -> None:
    """Until the socket is closed: a cancellation is lost if it comes when a message does."""
    with suppress(pynng.Closed):
        while True:
            await pair.asend(await pair.arecv())


def server(
    echo: Callable[[pynng.Pair0], Coroutine[None, None, None]],
) -> Callable[[Load], AbstractAsyncContextManager[int]]:
    """Who echoes like that."""

    @asynccontextmanager
    async def serve(load: Load) -> AsyncIterator[int]:
        with open_pair() as pair:
            listener = pair.listen("tcp://127.0.0.1:0")
            serving = asyncio.create_task(echo(pair))
            yield socket.ntohs(listener.local_address.port)  # as it is on the wire
        await serving

    return serve


serve = server(echo)


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
            left -= 1
            if not left and not (left := meter.lap()):
                return
            await pair.asend(body)

"""pyzmq's asyncio sockets, a ROUTER and a DEALER, which lose nothing and have no bound here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import zmq
import zmq.asyncio

from tests.benchmarks.load import Load, Meter


def open_socket(context: zmq.asyncio.Context, kind: int) -> zmq.asyncio.Socket:
    """A socket that never waits for room."""
    opened = context.socket(kind)
    opened.set_hwm(0)
    opened.linger = 0
    return opened


async def echo(router: zmq.asyncio.Socket) -> None:
    """Whoever it comes from; copies, for messages this small are slower without."""
    while True:
        await router.send_multipart(await router.recv_multipart())


def server(
    echo: Callable[[zmq.asyncio.Socket], Coroutine[None, None, None]],
) -> Callable[[Load], AbstractAsyncContextManager[int]]:
    """Who echoes like that."""

    @asynccontextmanager
    async def serve(load: Load) -> AsyncIterator[int]:
        with zmq.asyncio.Context() as context, open_socket(context, zmq.ROUTER) as router:
            port = router.bind_to_random_port("tcp://127.0.0.1")
            serving = asyncio.create_task(echo(router))
            yield port
            serving.cancel()
            await asyncio.wait([serving])

    return serve


serve = server(echo)


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    body = bytes(load.size)
    with zmq.asyncio.Context() as context, open_socket(context, zmq.DEALER) as dealer:
        dealer.connect(f"tcp://127.0.0.1:{port}")
        left = meter.lap()
        for _ in range(load.window):
            await dealer.send(body)
        while True:
            await dealer.recv()
            left -= 1
            if not left and not (left := meter.lap()):
                return
            await dealer.send(body)

"""pyzmq again, but what else has come is taken and answered at once, without asyncio.

No tutorial of pyzmq does so; its author has shown that it is how to get most out of it.
"""

from __future__ import annotations

from contextlib import suppress

import zmq
import zmq.asyncio

from tests.benchmarks.contenders.pyzmq import open_socket, server
from tests.benchmarks.load import Load, Meter


async def echo(router: zmq.asyncio.Socket) -> None:
    """Whoever it comes from."""
    at_once: zmq.Socket[bytes] = zmq.Socket.shadow(router)
    while True:
        await router.send_multipart(await router.recv_multipart())
        with suppress(zmq.Again):
            while True:
                at_once.send_multipart(at_once.recv_multipart(zmq.NOBLOCK), zmq.NOBLOCK)


serve = server(echo)


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    body = bytes(load.size)
    with zmq.asyncio.Context() as context, open_socket(context, zmq.DEALER) as dealer:
        dealer.connect(f"tcp://127.0.0.1:{port}")
        at_once: zmq.Socket[bytes] = zmq.Socket.shadow(dealer)
        left = meter.lap()
        for _ in range(load.window):
            await dealer.send(body)
        while True:
            await dealer.recv()
            with suppress(zmq.Again):
                while True:
                    left -= 1
                    if not left and not (left := meter.lap()):
                        return
                    at_once.send(body, zmq.NOBLOCK)
                    at_once.recv(zmq.NOBLOCK)

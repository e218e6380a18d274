"""pynng again, but what else has come is taken and answered at once, without asyncio."""

from __future__ import annotations

from contextlib import suppress

import pynng

from tests.benchmarks.contenders.pynng import open_pair, server
from tests.benchmarks.load import Load, Meter


async def echo(pair: pynng.Pair0) -> None:
    """Until the socket is closed."""
    with suppress(pynng.Closed):
        while True:
            await pair.asend(await pair.arecv())
            with suppress(pynng.TryAgain):
                while True:
                    pair.send(pair.recv(block=False))


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
            with suppress(pynng.TryAgain):
                while True:
                    left -= 1
                    if not left and not (left := meter.lap()):
                        return
                    pair.send(body)
                    pair.recv(block=False)

"""nats-py, requests from as many tasks as the window has, through a broker of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

from tests.benchmarks.load import Load, Meter, asking, until_one_ends
from tests.transport.nats.brokers import handled, missing, running

SUBJECT = "echo"


@asynccontextmanager
async def serve(_: Load) -> AsyncIterator[int]:
    """Answer requests."""

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    if (text := missing()) is not None:
        raise FileNotFoundError(text)
    with running() as broker:
        connection = await nats.connect(f"nats://127.0.0.1:{broker.port}")
        await connection.subscribe(SUBJECT, cb=echo)
        await handled(connection)
        yield broker.port
        await connection.close()


async def drive(load: Load, port: int, meter: Meter) -> None:
    """As many tasks as the window has."""
    connection = await nats.connect(f"nats://127.0.0.1:{port}")

    async def ask(body: bytes) -> Msg:
        return await connection.request(SUBJECT, body, timeout=60)

    await until_one_ends(asking(ask, load, meter))
    await connection.close()

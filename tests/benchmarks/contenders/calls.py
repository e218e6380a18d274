"""`client.call()` from as many tasks as the window has: a struct in JSON each way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec

import tofu_aio as tofu
from tests.benchmarks.load import Load, Meter, asking, until_one_ends


class Text(msgspec.Struct):
    """As long as the body that other contenders send."""

    text: str


service = tofu.Service()


@service.handler("echo")
async def echo(payload: Text) -> Text:
    """The same again."""
    return payload


@asynccontextmanager
async def serve(_: Load) -> AsyncIterator[int]:
    """Answer calls."""
    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(service.serve, "tcp://127.0.0.1:0")
        assert isinstance(address, tofu.TcpAddress)
        yield address.port
        tasks.cancel_scope.cancel()


async def drive(load: Load, port: int, meter: Meter) -> None:
    """As many tasks as the window has."""
    async with tofu.Client(f"tcp://127.0.0.1:{port}") as client:

        async def call(body: bytes) -> Text:
            return await client.call("echo", Text("x" * len(body)), result=Text)

        await until_one_ends(asking(call, load, meter))

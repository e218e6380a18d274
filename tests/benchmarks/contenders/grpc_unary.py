"""grpc.aio, unary calls from as many tasks as the window has: no protocol buffers to encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from tests.benchmarks.load import Load, Meter, asking, until_one_ends

SERVICE, METHOD = "Benchmark", "Echo"


async def echo(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    """The same again."""
    return request


@asynccontextmanager
async def serve(_: Load) -> AsyncIterator[int]:
    """Answer calls."""
    server = grpc.aio.server()
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def drive(load: Load, port: int, meter: Meter) -> None:
    """As many tasks as the window has."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")

        async def ask(body: bytes) -> bytes:
            answer: bytes = await call(body)
            return answer

        await until_one_ends(asking(ask, load, meter))

"""grpc.aio, one bidirectional stream of bytes: no protocol buffers to encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from tests.benchmarks.load import Load, Meter

SERVICE, METHOD = "Benchmark", "Echo"


async def echo(requests: object, context: grpc.aio.ServicerContext) -> None:
    """Until the client has gone."""
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message)


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo messages."""
    server = grpc.aio.server()
    handlers = {METHOD: grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    body = bytes(load.size)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        left = meter.lap()
        for _ in range(load.window):
            await call.write(body)
        while True:
            await call.read()
            left -= 1
            if not left and not (left := meter.lap()):
                break
            await call.write(body)
        call.cancel()

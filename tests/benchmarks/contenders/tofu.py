"""The stream face, with the limits that users get: `async for`, reply and send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tofu_aio as tofu
from tests.benchmarks.load import Load, Meter, until_one_ends

AT_ONCE = 50
"""Connections that are being made at a time."""


async def echo(channel: tofu.Channel) -> None:
    """Until the client has gone."""
    async for message in channel:
        await channel.reply(message, message.body)


@asynccontextmanager
async def serve(load: Load) -> AsyncIterator[int]:
    """Echo messages, a task for each channel."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        assert isinstance(listener.address, tofu.TcpAddress)
        serving = asyncio.create_task(listener.serve(echo))
        yield listener.address.port
        serving.cancel()
        await asyncio.wait([serving])


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way on each channel."""
    request = tofu.Message(tofu.OpCode.REQUEST, bytes(load.size))
    left = 0

    async def keep_busy(channel: tofu.Channel) -> None:
        nonlocal left
        for _ in range(load.window):
            await channel.send(request)
        async for _ in channel:
            left -= 1
            if not left and not (left := meter.lap()):
                return
            await channel.send(request)

    async with tofu.Engine() as engine, engine.create_group() as group:
        channels: list[tofu.Channel] = []
        while missing := load.channels - len(channels):
            connecting = [
                group.connect(f"tcp://127.0.0.1:{port}") for _ in range(min(missing, AT_ONCE))
            ]
            channels += await asyncio.gather(*connecting)
        left = meter.lap()
        tasks = [asyncio.create_task(keep_busy(channel)) for channel in channels]
        await until_one_ends(tasks)
        for channel in channels:
            channel.abort()

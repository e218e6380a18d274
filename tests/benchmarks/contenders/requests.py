"""`channel.request()` from as many tasks as the window has; the server is the stream face's."""

from __future__ import annotations

import asyncio

import tofu_aio as tofu
from tests.benchmarks.contenders import tofu as stream_face
from tests.benchmarks.load import Load, Meter, until_one_ends

serve = stream_face.serve


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Each task asks and waits for its answer, over and over."""
    body = bytes(load.size)
    async with tofu.connect(f"tcp://127.0.0.1:{port}") as channel:
        left = meter.lap()

        async def ask() -> None:
            nonlocal left
            while True:
                await channel.request(body)
                left -= 1
                if not left and not (left := meter.lap()):
                    return

        tasks = [asyncio.create_task(ask()) for _ in range(load.window)]
        await until_one_ends(tasks)

"""`channel.request()` from as many tasks as the window has; the server is the stream face's."""

from __future__ import annotations

import tofu_aio as tofu
from tests.benchmarks.contenders import tofu as stream_face
from tests.benchmarks.load import Load, Meter, asking, until_one_ends

serve = stream_face.serve


async def drive(load: Load, port: int, meter: Meter) -> None:
    """As many tasks as the window has."""
    async with tofu.connect(f"tcp://127.0.0.1:{port}") as channel:
        await until_one_ends(asking(channel.request, load, meter))

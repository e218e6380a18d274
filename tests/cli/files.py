"""Functions for tests that send and receive files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cli.processes import Ended, Running


def precious(file: Path) -> None:
    file.write_text("precious")


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def ended(receive: Running) -> Ended:
    """Wait for a process without blocking the channels of this one."""
    return await asyncio.to_thread(receive.finish)


OFFER = {"File-Name": "file", "File-Size": "2"}

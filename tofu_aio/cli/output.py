"""Showing the progress and the result of a transfer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .transfer import Advance


@contextmanager
def transfer_progress(label: str, size: int) -> Iterator[Advance]:
    """Show a progress bar for a file, on stderr if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=size)
        yield lambda step: progress.advance(task, step)


def transferred(size: int, seconds: float) -> str:
    """Format the size of a transfer, its duration, and its speed."""
    speed = decimal(int(size / seconds)) if seconds else "?"
    return f"{decimal(size)} in {seconds:.2f} s ({speed}/s)"

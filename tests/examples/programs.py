"""What the tests of programs in folders share: starting, asking and measuring them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

import tofu_aio as tofu
from tests.cli.processes import BOUND, Ended, Running, spawn

T = TypeVar("T")

EXAMPLES = Path(__file__).parents[2] / "examples"

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither these signals nor Unix sockets in Python"
)


class Programs:
    """Processes of one test. Those that still run at its end are killed.

    Args:
        folder: in which they run, and where their sockets are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    def address(self, name: str) -> str:
        """The address of a Unix socket in the folder."""
        return f"uds://{self.folder / name}"

    def start(self, script: str, *arguments: str) -> Running:
        """Start a program of ``examples``."""
        return self.keep(spawn(EXAMPLES / script, *arguments, folder=self.folder))

    def keep(self, running: Running) -> Running:
        """End a process with the test."""
        self._running.append(running)
        return running

    def end(self) -> None:
        """Kill what still runs."""
        for running in self._running:
            with running.process:  # closes its pipes
                running.process.kill()


@contextmanager
def programs(folder: Path) -> Iterator[Programs]:
    """The processes of one test."""
    started = Programs(folder)
    try:
        yield started
    finally:
        started.end()


def kill(running: Running) -> Ended:
    """Kill a process with SIGKILL."""
    return running.stop(signal.SIGKILL)


def terminate(running: Running) -> Ended:
    """Ask a process to end, and wait until it has."""
    return running.stop(signal.SIGTERM)


def until(condition: Callable[[], T], what: str) -> T:
    """Ask again and again until there is an answer that is true, and return it."""
    end = time.monotonic() + BOUND / 2
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain {what}")


def ask(address: str, name: str, payload: object = None, *, result: type[T]) -> T:
    """Call a handler of a program."""

    async def call() -> T:
        async with tofu.Client(address) as client:
            return await client.call(name, payload, result=result, timeout=20)

    return asyncio.run(call())


def serving(address: str) -> bool:
    """Whether a service answers at an address."""
    try:
        return bool(ask(address, "tofu.health", result=dict))
    except tofu.ConnectFailed:
        return False


def peak_memory(running: Running) -> int:
    """The most bytes that a process has had in memory so far; 0 where nobody counts them."""
    if sys.platform != "linux":
        return 0
    text = Path(f"/proc/{running.process.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

"""The checks that each process of a soak makes of itself, and its reports."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import re
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

import tofu_aio as tofu
from tests.soak.bodies import Broken

PATIENCE: Final = 30.0
"""Seconds after which something that has not happened counts as hanging."""

LOOK: Final = 0.05
"""Seconds between two checks of the pool."""

EXPECTED: Final = re.compile(r"no connection, trying until there is one: ")
"""Warnings that are expected: a server that was killed cannot be reached."""

LOSSES: Final = (tofu.PeerDisconnected, tofu.ChannelClosed, tofu.ChannelEnded)
"""How a channel may end while it is used."""


def report(**what: object) -> None:
    """Send a report to the parent process."""
    print(json.dumps(what), flush=True)


def blame(check: str, text: str) -> None:
    """Report a broken promise."""
    report(broken=check, text=text)


@contextlib.contextmanager
def reporting(doing: str) -> Iterator[None]:
    """Report the errors of a block, except lost channels, which are normal here."""
    try:
        yield
    except LOSSES:
        pass
    except Broken as error:
        blame(error.check, f"{doing}: {error}")
    except TimeoutError:
        blame("hang", f"{doing}: not done within {PATIENCE:g} s")
    except Exception as error:
        blame("error", f"{doing}: {error!r}")


class LogCheck(logging.Handler):
    """Reports each log record that is not expected."""

    def emit(self, record: logging.LogRecord) -> None:
        if not EXPECTED.match(text := self.format(record)):
            blame("log", f"{record.name} {record.levelname}: {text}")


class Watch:
    """Compares an engine and its process with their state at the beginning, when nothing happens.

    Args:
        engine: an open engine that has its listeners already.
        listeners: how many listeners it has.
    """

    def __init__(self, engine: tofu.Engine, listeners: int) -> None:
        self._engine = engine
        self._listeners = listeners
        self._process = psutil.Process()
        self._looking = asyncio.create_task(self._look(), name="look")
        self._tasks = len(asyncio.all_tasks())
        self._descriptors = count_descriptors()
        self._suspensions = 0
        self.done = 0
        """Scenes that were completed since the last report."""
        self.cut = 0
        """Scenes that ended early because a channel was lost or closed."""

    async def aclose(self) -> None:
        """Stop watching."""
        self._looking.cancel()
        await asyncio.wait([self._looking])

    async def _look(self) -> None:
        """Check the pool all the time."""
        while True:
            now = self._engine.statistics()
            if not 0 <= now.pool_free <= now.pool_size:
                blame("permits", f"during a round: {now}")
            await asyncio.sleep(LOOK)

    async def calm(self) -> None:
        """After all channels were closed, check that nothing is left, and report."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._engine.statistics().channels > self._listeners:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)
        # A transport closes its socket in the turn after connection_lost.
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        now = self._engine.statistics()
        if now.channels != self._listeners:
            blame("channels", f"left after all were closed: {now}")
        elif (now.pool_free, *_beside(now)) != (now.pool_size, 0, 0, 0):
            blame("permits", f"not all were given back: {now}")
        tasks = len(asyncio.all_tasks())
        if tasks > self._tasks:
            blame("tasks", f"{tasks} instead of {self._tasks}")
        descriptors = count_descriptors()
        if descriptors > self._descriptors:
            blame("descriptors", f"{descriptors} instead of {self._descriptors}")
        report(
            done=self.done,
            cut=self.cut,
            suspensions=now.suspensions - self._suspensions,
            objects=len(gc.get_objects()),
            resident=self._process.memory_info().rss,
        )
        self.done = self.cut = 0
        self._suspensions = now.suspensions


@asynccontextmanager
async def watched(pool: int) -> AsyncIterator[tofu.Engine]:
    """Open an engine with checks of the log, and at its end of permits and channels."""
    logging.getLogger().addHandler(LogCheck(logging.WARNING))
    logging.captureWarnings(True)
    warnings.simplefilter("always", ResourceWarning)
    sys.unraisablehook = lambda raised: blame("error", f"unraisable: {raised}")
    async with tofu.Engine(pool) as engine:
        yield engine
    gc.collect()
    left = engine.statistics()
    if (left.pool_free, left.channels, *_beside(left)) != (left.pool_size, 0, 0, 0, 0):
        blame("permits", f"after the engine was closed: {left}")


def _beside(now: tofu.EngineStatistics) -> tuple[int, int, int]:
    """What is held outside of the pool, and how many channels wait."""
    return now.reserves, now.joining_bytes, now.waiting + now.over_share


def count_descriptors() -> int:
    """Count the open descriptors, without those that libuv keeps in reserve."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        count: int = psutil.Process().num_fds()
        return count
    links = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder's own
            links.append(str(entry.readlink()))
    return len(links) - links.count("/dev/null")

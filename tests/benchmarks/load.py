"""What a pair of processes does, and what the client counts meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict, dataclass, field

LAP = 0.004
"""Seconds between two looks at the clock: seldom enough not to be part of what is measured."""

WARM_UP = 0.4
"""Of the measured seconds, as long does each client run before."""


@dataclass(frozen=True)
class Load:
    """An echo.

    Attributes:
        contender: the module of both server and client.
        loop: on which both run.
        window: messages under way at a time, on each channel.
        size: of a body, in bytes.
        seconds: of measuring.
        channels: connections, all equally busy.
        compiled: whether both run on the compiled core.
    """

    contender: str
    loop: str
    window: int
    size: int
    seconds: float
    channels: int = 1
    compiled: bool = False

    def to_json(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Load:
        """What ``to_json`` wrote."""
        return cls(**json.loads(text))


@dataclass
class Meter:
    """Counts a client's echoes, and times each of them if only one is under way at a time.

    A client calls ``lap`` when it begins, and again when it has had as many echoes as that said.

    Attributes:
        load: what the client does.
        begin: called when it begins, connected.
        count: echoes so far, with those of the warm-up.
        trips: nanoseconds of each round trip after it.
    """

    load: Load
    begin: Callable[[], object]
    count: int = 0
    trips: list[int] = field(default_factory=list)
    _lap: int = 0
    _seen: int = 0
    _started: int = 0
    _warm: int = 0
    _counted: int = 0

    def lap(self) -> int:
        """How many echoes to have until the next call; 0 when the time is up."""
        now = time.perf_counter_ns()
        self.count += self._lap
        if not self._lap:
            self._started, self._lap = now, 1
            self.begin()
        elif not self._warm:
            if now - self._started >= WARM_UP * self.load.seconds * 1e9:
                self._warm, self._counted = now, self.count
        else:
            if self._single:
                self.trips.append(now - self._seen)
            if now - self._warm >= self.load.seconds * 1e9:
                self._seen = now
                return 0
        if not self._single and now - self._seen < LAP * 1e9:
            self._lap *= 2
        self._seen = now
        return self._lap

    @property
    def _single(self) -> bool:
        return self.load.window * self.load.channels == 1

    def figures(self) -> dict[str, float]:
        """Echoes and bytes a second, and percentiles of a round trip in microseconds."""
        rate = (self.count - self._counted) / (self._seen - self._warm) * 1e9
        told = {"rate": rate, "bytes": rate * self.load.size, "echoes": self.count}
        trips = sorted(self.trips)
        for percent in PERCENTILES if trips else ():
            told[f"p{percent:g}"] = trips[int(len(trips) * percent / 100)] / 1000
        return told


PERCENTILES = (50.0, 90.0, 99.0, 99.9)
"""Of the time of a round trip."""


def asking(
    request: Callable[[bytes], Awaitable[object]], load: Load, meter: Meter
) -> list[asyncio.Task[None]]:
    """As many tasks as the window has: each asks and waits for its answer, over and over.

    The first of them ends when the time is up.
    """
    body = bytes(load.size)
    left = meter.lap()

    async def ask() -> None:
        nonlocal left
        while True:
            await request(body)
            left -= 1
            if not left and not (left := meter.lap()):
                return

    return [asyncio.create_task(ask()) for _ in range(load.window)]


async def until_one_ends(tasks: Collection[asyncio.Task[None]]) -> None:
    """Then cancel the others, and raise what one of them failed with."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result

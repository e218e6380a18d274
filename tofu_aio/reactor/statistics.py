"""What the reactor says of itself: immutable snapshots, and the counters they are taken from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple


class Changes(NamedTuple):
    """Changes of interest by kind."""

    adds: int
    modifies: int
    removes: int


class SlowestCallback(NamedTuple):
    """The callback that kept the loop longest.

    Attributes:
        seconds: How long it ran.
        name: The qualified name of the function, or of the coroutine its task runs.
    """

    seconds: float
    name: str


@dataclass(frozen=True, slots=True)
class SelectorStatistics:
    """What a selector has done since it was made.

    Attributes:
        asked: What the program asked for; a `modify` that only sets new data is no change.
        issued: What the system was told, each a system call on most.
        delivered: Events returned from `select`.
        dropped: Events of the system that `select` did not return, because they were about an
            earlier life of their number or about nothing that is registered.
        rebuilds: How often the poller was replaced by a new one.
        descriptors: How many are registered now.
    """

    asked: Changes
    issued: Changes
    delivered: int
    dropped: int
    rebuilds: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """What a loop has done since it was made.

    Attributes:
        turns: How often it looked for events and ran what was ready.
        waiting: Seconds spent asleep, or finding out what is due.
        running: Seconds spent in callbacks, which is the program's own work.
        slowest_callback: None before the first callback has run.
        selector: What its selector has done.
    """

    turns: int
    waiting: float
    running: float
    slowest_callback: SlowestCallback | None
    selector: SelectorStatistics


@dataclass(slots=True)
class SelectorCounters:
    """Where a selector counts."""

    asked_adds: int = 0
    asked_modifies: int = 0
    asked_removes: int = 0
    issued_adds: int = 0
    issued_modifies: int = 0
    issued_removes: int = 0
    delivered: int = 0
    dropped: int = 0
    rebuilds: int = 0

    def snapshot(self, descriptors: int) -> SelectorStatistics:
        """Return the counts so far, with how many descriptors are registered."""
        return SelectorStatistics(
            asked=Changes(self.asked_adds, self.asked_modifies, self.asked_removes),
            issued=Changes(self.issued_adds, self.issued_modifies, self.issued_removes),
            delivered=self.delivered,
            dropped=self.dropped,
            rebuilds=self.rebuilds,
            descriptors=descriptors,
        )


@dataclass(slots=True)
class LoopCounters:
    """Where a loop counts, each turn as little as will do.

    Attributes:
        turns: How many there were.
        running: Seconds spent in callbacks.
        slowest: Seconds that the slowest callback took.
        slowest_name: What a person would call it.
        started: The moment the loop began to run, had it not paused since.
        turned: The moment its last turn ended.
    """

    turns: int = 0
    running: float = 0.0
    slowest: float = 0.0
    slowest_name: str = ""
    started: float = 0.0
    turned: float = 0.0

    def start(self, now: float) -> None:
        """Count time from now on."""
        self.started += now - self.turned
        self.turned = now

    def snapshot(self, selector: SelectorStatistics) -> LoopStatistics:
        """Return the counts so far, with those of the selector."""
        slowest = SlowestCallback(self.slowest, self.slowest_name) if self.slowest_name else None
        return LoopStatistics(
            turns=self.turns,
            waiting=self.turned - self.started - self.running,
            running=self.running,
            slowest_callback=slowest,
            selector=selector,
        )


def name_of(callback: object) -> str:
    """Return what a person would call a callback: its function, or its task's coroutine."""
    while type(callback) is partial:
        callback = callback.func
    try:
        owner = getattr(callback, "__self__", None)
        named = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
        return str(getattr(named, "__qualname__", None) or type(named).__qualname__)
    except Exception:
        # A callable is free to answer for its attributes as it likes, as proxies do, and a count
        # must not end a loop.
        return type(callback).__qualname__

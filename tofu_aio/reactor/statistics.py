"""Statistics of the reactor: immutable snapshots, and the counters that they are taken from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple


class Changes(NamedTuple):
    """Numbers of changes to what is watched, by kind."""

    adds: int
    modifies: int
    removes: int


class SlowestCallback(NamedTuple):
    """The callback that took the longest.

    Attributes:
        seconds: How long it ran.
        name: The qualified name of the function, or of the coroutine of the task.
    """

    seconds: float
    name: str


@dataclass(frozen=True, slots=True)
class SelectorStatistics:
    """What a selector has done since it was made.

    Attributes:
        asked: Changes that the program has asked for. A `modify` that only sets new data does not
            count.
        issued: Changes that the system was told of. On most systems each is a system call.
        delivered: Events that `select` has returned.
        dropped: Events that `select` has not returned, because they belonged to an earlier
            registration of their number, or to none.
        rebuilds: How many times the poller was replaced by a new one.
        descriptors: The number of descriptors that are registered now.
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
        turns: How many times it has looked for events and run the callbacks that were due.
        waiting: Seconds spent waiting, or finding out what is due.
        running: Seconds spent in callbacks, which do the work of the program.
        slowest_callback: The one that took the longest; None before the first callback has run.
        selector: What the selector of the loop has done.
    """

    turns: int
    waiting: float
    running: float
    slowest_callback: SlowestCallback | None
    selector: SelectorStatistics


@dataclass(slots=True)
class SelectorCounters:
    """The counters of a selector."""

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
        """Return the counts so far, with the number of descriptors that are registered."""
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
    """The counters of a loop, with as little work in each turn as possible.

    Attributes:
        turns: The number of turns.
        running: Seconds spent in callbacks.
        slowest: Seconds that the slowest callback took.
        slowest_name: The name of that callback, for people.
        started: When the loop began to run, as if it had not been stopped since.
        turned: When the last turn ended.
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
        """Return the counts so far, together with those of the selector."""
        slowest = SlowestCallback(self.slowest, self.slowest_name) if self.slowest_name else None
        return LoopStatistics(
            turns=self.turns,
            waiting=self.turned - self.started - self.running,
            running=self.running,
            slowest_callback=slowest,
            selector=selector,
        )


def name_of(callback: object) -> str:
    """Return a readable name for a callback: that of its function, or of its task's coroutine."""
    while type(callback) is partial:
        callback = callback.func
    try:
        owner = getattr(callback, "__self__", None)
        named = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
        return str(getattr(named, "__qualname__", None) or type(named).__qualname__)
    except Exception:
        # A callable may compute its attributes, as proxies do, and raise anything. That must not
        # stop the loop.
        return type(callback).__qualname__

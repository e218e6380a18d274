"""The simulated system: virtual time, scheduled events, and descriptors that become ready."""

# `selectors.SelectorKey` has a field of type Any, and so has every signature that names it.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import errno
import heapq
import math
import selectors
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from .deadlock import Deadlock

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Call: TypeAlias = Callable[[], object]

FIRST_DESCRIPTOR: Final = 1 << 20
"""Simulated descriptors begin here. Real ones are smaller, so the two cannot be confused."""

_TURN: Final = 1e-6
"""Seconds that one turn of the loop takes, so that time passes for a program that only spins."""

_SPIN: Final = 1_000_000
"""Turns without any event and without waiting, after which the program counts as spinning."""


class Pollable(Protocol):
    """An object that a descriptor stands for."""

    def readiness(self) -> int:
        """The events of ``selectors`` that are ready."""


class Kernel(selectors.BaseSelector):
    """A selector with its own time and its own descriptors.

    Waiting takes no real time: the clock is set to the time of the next event.

    Args:
        random: the source of all random decisions.
        time_limit: seconds of virtual time that the run may take.

    Attributes:
        now: the virtual time, in seconds.
        watchers: called after each turn of the loop. An exception ends the run.
    """

    def __init__(self, random: Random, time_limit: float) -> None:
        self.random = random
        self.now = 0.0
        self.watchers: list[Call] = []
        self._time_limit = time_limit
        self._events: list[tuple[float, int, Call]] = []
        self._numbers = 0
        self._spins = 0
        self._next = FIRST_DESCRIPTOR
        self._open: dict[int, Pollable] = {}
        self._keys = _Keys()
        self._changed: dict[int, None] = {}  # descriptors that may have become ready

    def extend_time_limit(self, seconds: float) -> None:
        """Let the run take this much longer, to clean up."""
        self._time_limit = self.now + seconds
        self._spins = 0

    # --- events ---------------------------------------------------------------------------

    def call_at(self, when: float, call: Call) -> None:
        """Schedule a call. Calls for the same time are made in the order of scheduling."""
        self._numbers += 1
        heapq.heappush(self._events, (when, self._numbers, call))

    def _run_due_calls(self) -> None:
        """Make all calls that are due."""
        while self._events and self._events[0][0] <= self.now:
            self._spins = 0
            heapq.heappop(self._events)[2]()

    # --- descriptors ----------------------------------------------------------------------

    def open_descriptor(self, pollable: Pollable) -> int:
        """Return a new descriptor. None is used twice, so the use of a closed one is an error."""
        self._next += 1
        self._open[self._next] = pollable
        return self._next

    def pollable_of(self, descriptor: int) -> Pollable:
        """Return the object that a descriptor stands for.

        Raises:
            OSError: the descriptor is closed, or not a simulated one.
        """
        try:
            return self._open[descriptor]
        except KeyError:
            raise OSError(
                errno.EBADF,
                f"descriptor {descriptor} is closed or belongs to a real socket: in a simulated "
                "world, create sockets through the loop, for example with create_connection",
            ) from None

    def close_descriptor(self, descriptor: int) -> None:
        """Close a descriptor."""
        del self._open[descriptor]
        self._changed.pop(descriptor, None)

    def readiness_changed(self, descriptors: dict[int, None]) -> None:
        """Look at the readiness of these descriptors again."""
        self._changed.update(descriptors)

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that are open."""
        return list(self._open)

    # --- the selector ---------------------------------------------------------------------

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Watch a descriptor."""
        descriptor = _number(fileobj)
        self.pollable_of(descriptor)
        if descriptor in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._keys[descriptor] = key
        self._changed[descriptor] = None
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Stop watching a descriptor."""
        return self._keys.pop(_number(fileobj))

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Watch a descriptor for other events."""
        self.unregister(fileobj)
        return self.register(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """The watched descriptors, by number or, as in any selector, by the registered object."""
        return self._keys  # type: ignore[return-value]  # a dict is invariant in its keys

    def close(self) -> None:
        """Drop all events and descriptors."""
        self._events.clear()
        self._keys.clear()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let virtual time pass until a descriptor is ready, at most until the timeout.

        Raises:
            Deadlock: there is no timeout, and no event can make a descriptor ready; or the run
                takes too long.
        """
        for watch in self.watchers:
            watch()
        self.now += _TURN
        self._spins += 1
        self._run_due_calls()
        found = self._ready()
        if not found and (timeout is None or timeout > 0):
            self._spins = 0
            found = self._wait(math.inf if timeout is None else self.now + timeout)
        if self.now > self._time_limit:
            raise Deadlock(f"the run has not ended within {self._time_limit:g} s of virtual time")
        if self._spins > _SPIN:
            raise Deadlock(f"the program has spun for {_SPIN} turns of the loop without waiting")
        return found

    def _wait(self, end: float) -> list[tuple[selectors.SelectorKey, int]]:
        while self._events and self._events[0][0] <= end:
            self.now = max(self.now, self._events[0][0])
            self._run_due_calls()
            if found := self._ready():
                return found
        if end == math.inf:
            raise Deadlock("nothing can happen any more")
        self.now = end
        return []

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Some of the ready descriptors, in any order: real systems guarantee no more."""
        found = []
        for descriptor in list(self._changed):
            key = dict.get(self._keys, descriptor)
            events = key.events & self._open[descriptor].readiness() if key is not None else 0
            if key is not None and events:
                found.append((key, events))
            else:
                del self._changed[descriptor]
        if len(found) > 1:
            found = self.random.sample(found, self.random.randint(1, len(found)))
        return found


class _Keys(dict[int, selectors.SelectorKey]):
    """The keys by descriptor. asyncio and others also look up objects that have a descriptor."""

    def __missing__(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        if isinstance(fileobj, int):
            raise KeyError(fileobj)
        return self[_number(fileobj)]

    def get(self, fileobj: FileDescriptorLike, default: object = None) -> object:  # type: ignore[override]
        """Return the key. The ``get`` of a dict does not call ``__missing__``."""
        try:
            return self[fileobj]  # type: ignore[index]
        except KeyError:
            return default


def _number(fileobj: FileDescriptorLike) -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()

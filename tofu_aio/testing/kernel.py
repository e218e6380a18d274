"""The simulated system: virtual time, what happens when, and whose descriptors are ready."""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
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
"""Where simulated descriptors begin: no real one is there to be mistaken for."""

_TURN: Final = 1e-6
"""Seconds that one turn of the loop takes: a program that only spins gets older too."""

_SPIN: Final = 1_000_000
"""Turns in a row that nothing but the program itself has caused. Then it waits for nothing."""


class Pollable(Protocol):
    """What a descriptor stands for."""

    def readiness(self) -> int:
        """The selectors' events that would not block now."""


class Kernel(selectors.BaseSelector):
    """A selector whose descriptors, and whose time, exist only here.

    Waiting takes no time: the clock is set to the moment at which something happens next.

    Args:
        random: what all chance is drawn from.
        time_limit: seconds of virtual time that the run may take.

    Attributes:
        now: the virtual time, in seconds.
        watchers: called after each turn; what they raise ends the run.
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
        self._stirred: dict[int, None] = {}  # descriptors that may have become ready

    def extend(self, seconds: float) -> None:
        """Let the run take so much longer: it has to clean up."""
        self._time_limit = self.now + seconds
        self._spins = 0

    # --- what happens ---------------------------------------------------------------------

    def at(self, when: float, call: Call) -> None:
        """Have something happen at this time; of several, in the order in which they were told."""
        self._numbers += 1
        heapq.heappush(self._events, (when, self._numbers, call))

    def _happen(self) -> None:
        """Everything that is due."""
        while self._events and self._events[0][0] <= self.now:
            self._spins = 0
            heapq.heappop(self._events)[2]()

    # --- descriptors ----------------------------------------------------------------------

    def open(self, pollable: Pollable) -> int:
        """A descriptor, one never used before: a stale one is found out."""
        self._next += 1
        self._open[self._next] = pollable
        return self._next

    def behind(self, descriptor: int) -> Pollable:
        """What a descriptor stands for.

        Raises:
            OSError: nothing, any more.
        """
        try:
            return self._open[descriptor]
        except KeyError:
            raise OSError(
                errno.EBADF,
                f"{descriptor} is closed, or real: in a simulated world sockets come from the loop,"
                " by create_connection and create_server say",
            ) from None

    def shut(self, descriptor: int) -> None:
        """Close a descriptor."""
        del self._open[descriptor]
        self._stirred.pop(descriptor, None)

    def stir(self, descriptors: dict[int, None]) -> None:
        """What these descriptors stand for has changed."""
        self._stirred.update(descriptors)

    @property
    def descriptors(self) -> list[int]:
        """Those that are open."""
        return list(self._open)

    # --- the selector ---------------------------------------------------------------------

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Watch a descriptor."""
        descriptor = _number(fileobj)
        self.behind(descriptor)
        if descriptor in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._keys[descriptor] = key
        self._stirred[descriptor] = None
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Watch it no more."""
        return self._keys.pop(_number(fileobj))

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Watch it for something else."""
        self.unregister(fileobj)
        return self.register(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """What is watched, by number or, as with any selector, by what was registered."""
        return self._keys  # type: ignore[return-value]  # a dict is invariant in its keys

    def close(self) -> None:
        """Nothing happens any more."""
        self._events.clear()
        self._keys.clear()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let time pass until a descriptor is ready, but no longer than the timeout.

        Raises:
            Deadlock: without a timeout, that will never be; or the run takes too long.
        """
        for watch in self.watchers:
            watch()
        self.now += _TURN
        self._spins += 1
        self._happen()
        found = self._ready()
        if not found and (timeout is None or timeout > 0):
            self._spins = 0
            found = self._wait(math.inf if timeout is None else self.now + timeout)
        if self.now > self._time_limit:
            raise Deadlock(f"it has taken {self._time_limit:g} s of virtual time, and goes on")
        if self._spins > _SPIN:
            raise Deadlock(f"it has spun for {_SPIN} turns of the loop, and waits for nothing")
        return found

    def _wait(self, end: float) -> list[tuple[selectors.SelectorKey, int]]:
        while self._events and self._events[0][0] <= end:
            self.now = max(self.now, self._events[0][0])
            self._happen()
            if found := self._ready():
                return found
        if end == math.inf:
            raise Deadlock("nothing can happen any more")
        self.now = end
        return []

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Some of those that are ready, in any order: a system promises no more."""
        found = []
        for descriptor in list(self._stirred):
            key = dict.get(self._keys, descriptor)
            events = key.events & self._open[descriptor].readiness() if key is not None else 0
            if key is not None and events:
                found.append((key, events))
            else:
                del self._stirred[descriptor]
        if len(found) > 1:
            found = self.random.sample(found, self.random.randint(1, len(found)))
        return found


class _Keys(dict[int, selectors.SelectorKey]):
    """By descriptor. asyncio and others also look up the objects that have one."""

    def __missing__(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        if isinstance(fileobj, int):
            raise KeyError(fileobj)
        return self[_number(fileobj)]

    def get(self, fileobj: FileDescriptorLike, default: object = None) -> object:  # type: ignore[override]
        """The key; a dict's own ``get`` does not ask ``__missing__``."""
        try:
            return self[fileobj]  # type: ignore[index]
        except KeyError:
            return default


def _number(fileobj: FileDescriptorLike) -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()

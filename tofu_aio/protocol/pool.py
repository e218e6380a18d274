"""The accounting of the bounded pool: permits, and who waits for one.

The pool is a budget, not a cache: a permit says that one more received message may be alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol


class Allocation(Enum):
    """What ``Engine.get`` may draw on for a message."""

    ALWAYS = auto()
    """Nothing of the pool: it never fails."""
    POOL_ONLY = auto()
    """One of the pool's permits, which the message holds until it is sent, released or put back."""


class Reader(Protocol):
    """A channel whose reading depends on the pool."""

    def resume(self) -> None:
        """Take the permit that is free now, and go on."""

    def reconcile_reading(self) -> None:
        """Read from the socket exactly if the channel can take something."""


class Pool:
    """``size`` permits and a first-come-first-served queue of waiters.

    ``release`` may be called from any thread, and from a finalizer in the middle of anything:
    it is two atomic steps, an append and a look at the queue; so are those of ``take``. All else
    belongs to the event loop's thread.

    Args:
        size: how many received messages may be alive at once; at least 1.
        on_release: called, in whatever thread, when a permit came back while someone waits.

    Attributes:
        size: as given.
        free: the permits not taken, as a deque because its ``append`` and ``pop`` are atomic.
            ``pop`` takes one; it raises IndexError when there is none.
        waiters: who waits, the longest first. Nobody may take a permit past them.

    Raises:
        ValueError: ``size`` is less than 1.
    """

    __slots__ = ("_on_release", "free", "size", "waiters")

    def __init__(self, size: int, on_release: Callable[[], None]) -> None:
        if size < 1:
            raise ValueError(f"a pool of {size} messages could never receive: it needs at least 1")
        self.size = size
        self.free: deque[None] = deque((None,) * size)
        self.waiters: deque[Reader] = deque()
        self._on_release = on_release

    @property
    def out(self) -> int:
        """How many permits are taken. Derived: taken and free are the size, always."""
        return self.size - len(self.free)

    def take(self) -> bool:
        """Take a permit for somebody who can do without: not past those who wait. Any thread."""
        if self.waiters:
            return False
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Take a permit back."""
        self.free.append(None)
        # In this order: who starts to wait looks at ``free`` after joining the queue, so one of
        # the two sides always sees the other.
        if self.waiters:
            self._on_release()

"""Who may read: permits go to the channels that wait, and once a turn the sockets are told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ..protocol.pool import Pool, Reader
from .home import Home


class ReadGate:
    """The pool of an engine, and the turn's one reconciliation of who reads.

    A channel that finds no permit joins the queue and is looked at again at the end of the turn.
    By then the application may have released what it held; a channel that starts and stops
    waiting within a turn never touches its socket. ``Pool.release`` may come from any thread.

    Args:
        size: the permits.
        on_exhausted: told once when channels begin to wait, and again only after none did.

    Attributes:
        home: the loop that it belongs to.
    """

    def __init__(self, size: int, on_exhausted: Callable[[Reader], bool]) -> None:
        self.pool = Pool(size, self._schedule)
        self.suspensions = 0
        """How often a channel began to wait for a permit."""
        self._on_exhausted = on_exhausted
        self._told = False
        self._changed: dict[Reader, None] = {}
        self._scheduled = False
        self.home = Home()

    def open(self) -> None:
        """Belong to the running loop and its thread."""
        self.home.enter()

    def starve(self, reader: Reader) -> None:
        """Put a channel that found no permit at the end of the queue."""
        self.suspensions += 1
        self.pool.waiters.append(reader)
        self._changed[reader] = None
        if not self._told:
            self._told = self._on_exhausted(reader)
        self._schedule()

    def forget(self, reader: Reader) -> None:
        """Take a channel that closes out of the queue."""
        if reader in self.pool.waiters:
            self.pool.waiters.remove(reader)
            if not self.pool.waiters:
                self._told = False

    def _schedule(self) -> None:
        """Reconcile at the end of this turn. From any thread, and from finalizers."""
        if self._scheduled or not self.home.alive:
            return
        # Raised before the callback is queued, lowered before it looks at the pool: a permit
        # that comes back in between queues one callback too many, never one too few.
        self._scheduled = True
        with contextlib.suppress(RuntimeError):  # closed in this very moment
            self.home.call_soon(self._reconcile)

    def _reconcile(self) -> None:
        self._scheduled = False
        pool = self.pool
        changed, self._changed = self._changed, {}
        while pool.waiters and pool.free:
            reader = pool.waiters.popleft()
            changed[reader] = None
            reader.resume()  # takes one permit at least, or has nothing left to take it for
        if not pool.waiters:
            self._told = False
        for reader in changed:
            if reader not in self._changed:  # else it waits since this very turn: see the next
                reader.reconcile_reading()

"""Who may read: permits go to the channels that wait, and once a turn the sockets are told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from ..protocol.pool import Pool, Reader
from .heartbeat import Heartbeats
from .home import Home
from .limits import Limits
from .stalls import StallWatch

READ_AT_ONCE: Final = 256 * 1024
"""Bytes that are read from a socket before others have their turn, as asyncio itself does."""


class ReadGate:
    """The pool of an engine, and the turn's one reconciliation of who reads.

    A channel that finds no permit joins the queue and is looked at again at the end of the turn.
    By then the application may have released what it held; a channel that starts and stops
    waiting within a turn never touches its socket. ``Pool.release`` may come from any thread.

    A channel that has its share of the pool waits as well, but in nobody's way: once enough of its
    own messages are released, it joins the queue.

    Args:
        limits: of the engine.
        on_exhausted: told once when channels begin to wait, and again only after none did.
        on_stall: told for how many seconds channels have waited and none was served; once.

    Attributes:
        limits: as given.
        home: the loop that it belongs to.
        heartbeats: of all channels.
        buffer: what all channels are read into, one at a time.
        suspensions: how often a channel began to wait for a permit.
        longest_wait: seconds that a channel has waited for a permit at most, and waits no more.
    """

    def __init__(
        self,
        limits: Limits,
        on_exhausted: Callable[[Reader], bool],
        on_stall: Callable[[float], None],
    ) -> None:
        self.limits = limits
        self.pool = Pool(
            limits.pool_messages, self._schedule, unit=limits.unit, share=limits.channel_share
        )
        self.home = Home()
        self.heartbeats = Heartbeats(self.home)
        self.buffer = memoryview(bytearray(READ_AT_ONCE))
        self.suspensions = 0
        self.longest_wait = 0.0
        self._waiting_since = 0.0  # somebody, while nobody was served
        self._on_exhausted = on_exhausted
        self._watch = StallWatch(self.home, self._stalled_since, on_stall)
        self._told = False
        self._changed: dict[Reader, None] = {}
        self._scheduled = False

    def open(self) -> None:
        """Belong to the running loop and its thread."""
        self.home.enter()

    def close(self) -> None:
        """Nobody will wait any more."""
        self._watch.end()

    def starve(self, reader: Reader) -> None:
        """Have a channel wait that found no permit: at the end of the queue, or for its own."""
        self.suspensions += 1
        reader.suspensions += 1
        reader.suspended_at = self.home.time()
        self._changed[reader] = None
        if reader.over_its_share:
            self.pool.parked[reader] = None
        else:
            self._enqueue(reader)
        self._schedule()

    def forget(self, reader: Reader) -> None:
        """Take a channel that closes out of the queue."""
        pool = self.pool
        pool.parked.pop(reader, None)
        if reader in pool.waiters:
            pool.waiters.remove(reader)
            self._told = self._told and bool(pool.waiters)
            self._schedule()  # it may have been in the way of one that needs less
        self._wake(reader)

    def longest_wait_by_now(self) -> float:
        """Seconds that a channel has waited for permits at most, or waits now."""
        now = self.home.time() if self.suspensions else 0.0
        waiting = (*self.pool.waiters, *self.pool.parked)
        waits = [now - reader.suspended_at for reader in waiting if reader.suspended_at is not None]
        return max(self.longest_wait, *waits, 0.0)

    def _schedule(self) -> None:
        """Reconcile at the end of this turn. From any thread, and from finalizers."""
        if self._scheduled or not self.home.alive:
            return
        # Raised before the callback is queued, lowered before it looks at the pool: a permit
        # that comes back in between queues one callback too many, never one too few.
        self._scheduled = True
        with contextlib.suppress(RuntimeError):  # closed in this very moment
            self.home.call_soon(self._reconcile)

    def _enqueue(self, reader: Reader) -> None:
        if not self.pool.waiters:
            self._waiting_since = self.home.time()
        self.pool.waiters.append(reader)
        if not self._told and reader.needs > len(self.pool.free):
            self._told = self._on_exhausted(reader)
        self._watch.begin()

    def _reconcile(self) -> None:
        self._scheduled = False
        pool = self.pool
        changed, self._changed = self._changed, {}
        for reader in [reader for reader in pool.parked if not reader.over_its_share]:
            del pool.parked[reader]
            self._enqueue(reader)
        # Those who wait now, each once: who goes on may give back what it got, and wait again.
        for _ in range(len(pool.waiters)):
            if not pool.waiters or pool.waiters[0].needs > len(pool.free):
                break
            reader = pool.waiters.popleft()
            # Before the look: what another thread releases after it finds somebody to tell.
            pool.parked[reader] = None
            if reader.over_its_share:
                continue
            del pool.parked[reader]
            self._waiting_since = self.home.time()
            changed[reader] = None
            self._wake(reader)
            reader.resume()  # takes what it needs, or has nothing left to take it for
        if not pool.waiters:
            self._told = False
        elif pool.waiters[0].needs <= len(pool.free):
            self._schedule()
        for reader in changed:
            if reader not in self._changed:  # else it waits since this very turn: see the next
                reader.reconcile_reading()

    def _stalled_since(self) -> float | None:
        return self._waiting_since if self.pool.waiters else None

    def _wake(self, reader: Reader) -> None:
        """It waits no more."""
        if reader.suspended_at is not None:
            waited = self.home.time() - reader.suspended_at
            reader.suspended_for += waited
            reader.suspended_at = None
            self.longest_wait = max(self.longest_wait, waited)

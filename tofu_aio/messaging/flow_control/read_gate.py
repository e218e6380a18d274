"""Which channels are read: gives permits to waiting channels, and once a turn adjusts reading."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Final

from ...core import GateFields
from ...protocol.atomic import see_all
from ...protocol.pool import Pool, Reader
from ...rare_warnings import RareWarnings
from ..connection.heartbeat import Heartbeats
from ..delivery.joining import JoiningRoom
from ..limits import Limits
from ..threads.owner_loop import OwnerLoop
from .stall_watch import StallWatch

logger = logging.getLogger("tofu_aio.pool")

_FEW: Final = 32
"""Channels over their share that are checked in a turn of the loop."""

READ_AT_ONCE: Final = 256 * 1024
"""Bytes that are read from a socket before others have a turn, as in asyncio itself."""


class ReadGate(GateFields):
    """The pool of an engine, and the one reconciliation per turn that decides which channels read.

    A channel that finds no permit joins the queue and is checked again at the end of the turn. By
    then the application may have released messages. The socket of a channel that starts and stops
    waiting within a turn is never touched. ``Pool.release`` may be called from any thread.

    A channel that has used up its share of the pool also waits, but blocks no other channel: it
    joins the queue once enough of its own messages are released. A channel whose reserve comes
    back goes on at once, ahead of all others, because it takes nothing that they wait for.

    Args:
        limits: of the engine.
        on_exhausted: called when channels begin to wait, and again only after none did. Returns
            whether that was reported.
        on_stall: called with the seconds that a channel has waited without being served; once for
            each wait.

    Attributes:
        limits: as given.
        pool: the permits.
        joining: the room for bodies that are too long for one message.
        owner_loop: the event loop that it belongs to.
        heartbeats: of all channels.
        buffer: the buffer that all channels are read into, one at a time.
        suspensions: how often a channel began to wait for a permit.
        longest_wait: the longest time in seconds of a finished wait for a permit.
        refused: how many connections listeners have refused.
        received_bytes: bytes that all channels have received.
        warnings: about events that peers can cause as often as they like.
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
        self.joining = JoiningRoom(limits.joining_bytes, limits.max_body, limits.channel_share)
        self.owner_loop = OwnerLoop()
        self.heartbeats = Heartbeats(self.owner_loop)
        self.buffer = memoryview(bytearray(READ_AT_ONCE))
        self.suspensions = 0
        self.longest_wait = 0.0
        self.refused = 0
        self.received_bytes = 0
        self.warnings = RareWarnings(logger, self.owner_loop.time)
        self._waiting_since = 0.0  # since when no channel in the queue was served
        self._on_exhausted = on_exhausted
        self._watch = StallWatch(self.owner_loop, self._unserved_since, on_stall)
        self._exhaustion_reported = False
        self._changed: dict[Reader, None] = {}
        self._scheduled = False
        self._permits_returned = False  # since the channels in ``pool.parked`` were counted
        self._parked_unchecked = 0  # how many of those were not checked since then

    def open(self) -> None:
        """Belong to the running loop and its thread."""
        self.owner_loop.enter()

    def close(self) -> None:
        """Stop the watch for stalls: no channel will wait any more."""
        self._watch.stop()

    def count_refusal(self) -> None:
        """Count a connection that a listener has refused."""
        self.refused += 1

    def starve(self, reader: Reader) -> None:
        """Make a channel that found no permit wait: in the queue, or for its own messages."""
        account = reader.account
        self.suspensions += 1
        reader.suspensions += 1
        reader.suspended_at = self.owner_loop.time()
        self._changed[reader] = None
        self.pool.suspend(account, reader)
        if reader.over_its_share:
            self.pool.parked.append(reader)
            self._report_wait(reader)
        else:
            self._enqueue(reader)
        if not account.reserved:  # the reserve came back since the decoder's check
            self.pool.restored.append(account)
        self._schedule()

    def retry(self, reader: Reader) -> None:
        """Check a waiting channel again at the end of this turn."""
        self.pool.restored.append(reader.account)
        self._schedule()

    def forget(self, reader: Reader) -> None:
        """Take a channel that closes out of the queue."""
        if reader.suspended_at is not None:
            self._end_suspension(reader)
            self._exhaustion_reported = self._exhaustion_reported and bool(self.pool.suspended)
            self._schedule()  # it may have blocked a channel that needs fewer permits

    def longest_wait_by_now(self) -> float:
        """The longest time in seconds that a channel has waited for permits, up to now."""
        now = self.owner_loop.time() if self.suspensions else 0.0
        waits = [
            now - reader.suspended_at
            for reader in self.pool.suspended.values()
            if reader.suspended_at is not None
        ]
        return max(self.longest_wait, *waits, 0.0)

    def _schedule(self) -> None:
        """Reconcile at the end of this turn. May be called from any thread and finalizer."""
        self._permits_returned = True
        self._schedule_again()

    def _schedule_again(self) -> None:
        if self._scheduled or not self.owner_loop.alive:
            return
        # Set before the callback is queued, and cleared before the callback checks the pool: a
        # permit that comes back in between queues one callback too many, never one too few. The
        # same holds for two threads that find it cleared at the same time.
        self._scheduled = True
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            self.owner_loop.call_soon(self._reconcile)

    def _enqueue(self, reader: Reader) -> None:
        if not self.pool.waiters:
            self._waiting_since = self.owner_loop.time()
        self.pool.waiters.append(reader)
        if reader.needs > len(self.pool.free):
            self._report_wait(reader)

    def _report_wait(self, reader: Reader) -> None:
        """Report that a channel waits, once until none does."""
        self._exhaustion_reported = self._exhaustion_reported or self._on_exhausted(reader)
        self._watch.begin()

    def _reconcile(self) -> None:
        self._scheduled = False
        see_all(self.pool.free, self.pool.reserves, self.pool.restored)
        changed, self._changed = self._changed, {}
        self._use_reserves(changed)
        self._deal_out(changed)
        # Not before: a channel that goes on with one permit and waits again at once still waits.
        self._exhaustion_reported = self._exhaustion_reported and bool(self.pool.suspended)
        for reader in changed:
            if reader not in self._changed:  # otherwise it began to wait just now: the next turn's
                reader.reconcile_reading()

    def _use_reserves(self, changed: dict[Reader, None]) -> None:
        """Resume channels whose own reserve came back: they take nothing from others."""
        restored = self.pool.restored
        # Only the present ones, each once: a channel that goes on may give its reserve back at once
        # and wait again. Otherwise a flood that is drained in time would keep the turn to itself.
        for account in dict.fromkeys(restored.popleft() for _ in range(len(restored))):
            reader = self.pool.suspended.get(account)
            if reader is not None and reader.may_go_on():
                self._resume(reader, 0, changed)
        if restored:
            self._schedule()

    def _deal_out(self, changed: dict[Reader, None]) -> None:
        """Give the permits that came back to the waiting channels, in order."""
        pool = self.pool
        self._check_parked()
        for _ in range(len(pool.waiters)):  # as above
            if not pool.waiters:
                break
            reader = pool.waiters.first
            # Checked first: channels behind it must not wait for permits beyond its share.
            if reader.over_its_share:
                pool.waiters.discard(reader)
                pool.parked.append(reader)
                continue
            if reader.needs > len(pool.free):
                break
            self._waiting_since = self.owner_loop.time()
            self._resume(pool.waiters.popleft(), reader.needs, changed)
        if pool.waiters and pool.waiters.first.needs <= len(pool.free):
            self._schedule()

    def _check_parked(self) -> None:
        """Queue channels whose share has room again: a few each turn, because there may be many."""
        parked = self.pool.parked
        if self._permits_returned:
            self._permits_returned = False  # before the check, as other threads may set it again
            self._parked_unchecked = len(parked)
        for _ in range(min(len(parked), _FEW)):
            reader = parked.popleft()
            if reader.over_its_share:
                parked.append(reader)
            else:
                self._enqueue(reader)
        self._parked_unchecked -= _FEW
        if self._parked_unchecked > 0:
            self._schedule_again()

    def _resume(self, reader: Reader, granted: int, changed: dict[Reader, None]) -> None:
        self._end_suspension(reader)
        changed[reader] = None
        reader.resume(granted)  # takes what it needs, unless it no longer needs it

    def _unserved_since(self) -> list[float]:
        """Since when the queue was not served, and since when each parked channel has waited."""
        pool = self.pool
        since = [reader.suspended_at for reader in pool.parked if reader.suspended_at is not None]
        if pool.waiters:
            since.append(self._waiting_since)
        return since

    def _end_suspension(self, reader: Reader) -> None:
        """Take a channel that waits no more out of the queue, and add up its wait."""
        assert reader.suspended_at is not None
        pool = self.pool
        pool.waiters.discard(reader)
        pool.parked.discard(reader)
        del pool.suspended[reader.account]
        waited = self.owner_loop.time() - reader.suspended_at
        reader.suspended_for += waited
        reader.suspended_at = None
        self.longest_wait = max(self.longest_wait, waited)

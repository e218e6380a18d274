"""Who may read: permits go to the channels that wait, and once a turn the sockets are told."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Final

from ...protocol.atomic import see_all
from ...protocol.pool import Pool, Reader
from ..connection.heartbeat import Heartbeats
from ..delivery.joining import JoiningRoom
from ..limits import Limits
from ..rare_warnings import RareWarnings
from ..threads.owner_loop import OwnerLoop
from .stall_watch import StallWatch

logger = logging.getLogger("tofu_aio.pool")

_FEW: Final = 32
"""Channels over their share that are looked at in a turn of the loop."""

READ_AT_ONCE: Final = 256 * 1024
"""Bytes that are read from a socket before others have their turn, as asyncio itself does."""


class ReadGate:
    """The pool of an engine, and the turn's one reconciliation of who reads.

    A channel that finds no permit joins the queue and is looked at again at the end of the turn.
    By then the application may have released what it held; a channel that starts and stops
    waiting within a turn never touches its socket. ``Pool.release`` may come from any thread.

    A channel that has its share of the pool waits as well, but in nobody's way: once enough of its
    own messages are released, it joins the queue. And one whose reserve comes back goes on at
    once, past all others, for it takes nothing that they wait for.

    Args:
        limits: of the engine.
        on_exhausted: told once when channels begin to wait, and again only after none did.
        on_stall: told for how many seconds a channel has waited and was not served; once.

    Attributes:
        limits: as given.
        joining: where bodies are put together that are too long for one message.
        home: the loop that it belongs to.
        heartbeats: of all channels.
        buffer: what all channels are read into, one at a time.
        suspensions: how often a channel began to wait for a permit.
        longest_wait: seconds that a channel has waited for a permit at most, and waits no more.
        refused: connections that listeners have refused.
        warnings: of what peers can bring about as often as they like.
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
        self.warnings = RareWarnings(logger, self.owner_loop.time)
        self._waiting_since = 0.0  # somebody, while nobody was served
        self._on_exhausted = on_exhausted
        self._watch = StallWatch(self.owner_loop, self._unserved_since, on_stall)
        self._told = False
        self._changed: dict[Reader, None] = {}
        self._scheduled = False
        self._returned = False  # something came back since the parked were counted
        self._unseen = 0  # of those in ``pool.parked``, since then

    def open(self) -> None:
        """Belong to the running loop and its thread."""
        self.owner_loop.enter()

    def close(self) -> None:
        """Nobody will wait any more."""
        self._watch.stop()

    def count_refusal(self) -> None:
        """A listener has refused a connection."""
        self.refused += 1

    def starve(self, reader: Reader) -> None:
        """Have a channel wait that found no permit: at the end of the queue, or for its own."""
        account = reader.account
        self.suspensions += 1
        reader.suspensions += 1
        reader.suspended_at = self.owner_loop.time()
        self._changed[reader] = None
        self.pool.suspend(account, reader)
        if reader.over_its_share:
            self.pool.parked.append(reader)
            self._tell(reader)
        else:
            self._enqueue(reader)
        if not account.reserved:  # it came back since the decoder looked
            self.pool.restored.append(account)
        self._schedule()

    def retry(self, reader: Reader) -> None:
        """Have a channel that waits look again at the end of this turn."""
        self.pool.restored.append(reader.account)
        self._schedule()

    def forget(self, reader: Reader) -> None:
        """Take a channel that closes out of the queue."""
        if reader.suspended_at is not None:
            self._end_suspension(reader)
            self._told = self._told and bool(self.pool.suspended)
            self._schedule()  # it may have been in the way of one that needs less

    def longest_wait_by_now(self) -> float:
        """Seconds that a channel has waited for permits at most, or waits now."""
        now = self.owner_loop.time() if self.suspensions else 0.0
        waits = [
            now - reader.suspended_at
            for reader in self.pool.suspended.values()
            if reader.suspended_at is not None
        ]
        return max(self.longest_wait, *waits, 0.0)

    def _schedule(self) -> None:
        """Reconcile at the end of this turn. From any thread, and from finalizers."""
        self._returned = True
        self._schedule_again()

    def _schedule_again(self) -> None:
        if self._scheduled or not self.owner_loop.alive:
            return
        # Raised before the callback is queued, lowered before it looks at the pool: a permit
        # that comes back in between queues one callback too many, never one too few. So do two
        # threads that find it lowered at once.
        self._scheduled = True
        with contextlib.suppress(RuntimeError):  # closed in this very moment
            self.owner_loop.call_soon(self._reconcile)

    def _enqueue(self, reader: Reader) -> None:
        if not self.pool.waiters:
            self._waiting_since = self.owner_loop.time()
        self.pool.waiters.append(reader)
        if reader.needs > len(self.pool.free):
            self._tell(reader)

    def _tell(self, reader: Reader) -> None:
        """That a channel waits, once until none does."""
        self._told = self._told or self._on_exhausted(reader)
        self._watch.begin()

    def _reconcile(self) -> None:
        self._scheduled = False
        see_all(self.pool.free, self.pool.reserves, self.pool.restored)
        changed, self._changed = self._changed, {}
        self._use_reserves(changed)
        self._deal_out(changed)
        # Not before: who goes on with one permit, and waits again at once, has not stopped waiting.
        self._told = self._told and bool(self.pool.suspended)
        for reader in changed:
            if reader not in self._changed:  # else it waits since this very turn: see the next
                reader.reconcile_reading()

    def _use_reserves(self, changed: dict[Reader, None]) -> None:
        """Let go on whose own reserve came back: it takes nothing from anybody."""
        restored = self.pool.restored
        # Those of now, each once, however often it came back: who goes on may give it back at
        # once, and wait again. Else a flood that is drained in time would have the turn to itself.
        for account in dict.fromkeys(restored.popleft() for _ in range(len(restored))):
            reader = self.pool.suspended.get(account)
            if reader is not None and reader.may_go_on():
                self._go_on(reader, 0, changed)
        if restored:
            self._schedule()

    def _deal_out(self, changed: dict[Reader, None]) -> None:
        """Give the permits that came back to those who wait, in order."""
        pool = self.pool
        self._look_at_parked()
        for _ in range(len(pool.waiters)):  # as above
            if not pool.waiters:
                break
            reader = pool.waiters.first
            # Its share first: those behind it do not wait for what it would need beyond that.
            if reader.over_its_share:
                pool.waiters.discard(reader)
                pool.parked.append(reader)
                continue
            if reader.needs > len(pool.free):
                break
            self._waiting_since = self.owner_loop.time()
            self._go_on(pool.waiters.popleft(), reader.needs, changed)
        if pool.waiters and pool.waiters.first.needs <= len(pool.free):
            self._schedule()

    def _look_at_parked(self) -> None:
        """Queue those whose share has room again: a few each turn, for there may be many."""
        parked = self.pool.parked
        if self._returned:
            self._returned = False  # before the look, as all that other threads raise
            self._unseen = len(parked)
        for _ in range(min(len(parked), _FEW)):
            reader = parked.popleft()
            if reader.over_its_share:
                parked.append(reader)
            else:
                self._enqueue(reader)
        self._unseen -= _FEW
        if self._unseen > 0:
            self._schedule_again()

    def _go_on(self, reader: Reader, granted: int, changed: dict[Reader, None]) -> None:
        self._end_suspension(reader)
        changed[reader] = None
        reader.resume(granted)  # takes what it needs, or has nothing left to take it for

    def _unserved_since(self) -> list[float]:
        """Since when nobody in the queue was served, and each that waits for its own messages."""
        pool = self.pool
        since = [reader.suspended_at for reader in pool.parked if reader.suspended_at is not None]
        if pool.waiters:
            since.append(self._waiting_since)
        return since

    def _end_suspension(self, reader: Reader) -> None:
        """It waits no more."""
        assert reader.suspended_at is not None
        pool = self.pool
        pool.waiters.discard(reader)
        pool.parked.discard(reader)
        del pool.suspended[reader.account]
        waited = self.owner_loop.time() - reader.suspended_at
        reader.suspended_for += waited
        reader.suspended_at = None
        self.longest_wait = max(self.longest_wait, waited)

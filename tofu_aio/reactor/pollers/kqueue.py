"""kqueue(2): macOS and the BSDs."""

from __future__ import annotations

import contextlib
import errno
import select
import sys
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING

from tofu_aio.reactor.pollers import poll
from tofu_aio.reactor.pollers.poller import BOTH, READ, REFUSED, WRITE, Event

# For the type checker: `select` has a kqueue only there. Elsewhere the tests provide a fake one.
assert not TYPE_CHECKING or (sys.platform != "linux" and sys.platform != "win32")


class KqueuePoller:
    """Watches through `select.kqueue`, level-triggered: without EV_CLEAR.

    Facts about kqueue(2), and what follows from them:

    * The kernel has one knote for each pair of number and filter, and reading and writing are two
      filters. So a descriptor may be twice in one answer. It is reported once.
    * A filter is ready, with EV_EOF, when its own direction has ended. A hang-up ends both
      directions, so it reaches any interest that is registered. A half-close by the peer is not
      reported to code that waits to write.
    * Closing a number drops its knotes, even if a copy of the file lives on. So after a close there
      is nothing to remove, and no stale registration. But a change for a number that was reused
      must add everything that is wanted, also what was watched before. Adding it again is harmless.
    * Changes are made before the wait. A change that fails is reported with EV_ERROR if the answer
      has room for it. If not, it ends the call, and the remaining changes are not made. An answer
      with errors has no events. So there is always room for all errors, and after errors the kernel
      is asked again. ENOENT means that there was nothing to delete, and is not an error.
    * Python repeats the call after a signal (PEP 475), with its changes. That undoes changes for
      the same numbers that a signal handler or another thread has made meanwhile. So these are made
      again in the next call, and a timer that fires at once ends the call that waits.
    """

    meaning = MappingProxyType({flags: flags for flags in (READ, WRITE, BOTH, REFUSED)})

    def __init__(self) -> None:
        self._kqueue = select.kqueue()
        self._filters = {READ: select.KQ_FILTER_READ, WRITE: select.KQ_FILTER_WRITE}
        self._readiness = {filter_: event for event, filter_ in self._filters.items()}
        # Interest and generation of the watched descriptors.
        self._watched: dict[int, tuple[int, int]] = {}
        # Changes by descriptor: those for the next waiting call, and those of the current one.
        self._deferred: dict[int, list[select.kevent]] = {}
        self._in_call: dict[int, list[select.kevent]] = {}
        self._waiting = False

    def add(self, fd: int, interest: int, generation: int, /) -> None:
        """EV_ADD."""
        # Before the call, because another thread may be waiting for the event.
        self._watched[fd] = interest, generation
        try:
            self._change_now(fd, interest, 0, generation)
        except OSError:
            # The kernel may have accepted one filter and not the other.
            self._forget(fd)
            raise

    def modify(self, fd: int, armed: int, interest: int, generation: int, /) -> None:
        """EV_ADD and EV_DELETE, in the next waiting call, or at once if a call waits."""
        if self._kqueue.closed:
            raise ValueError("I/O operation on closed kqueue object")
        self._watched[fd] = interest, generation
        unwanted = self._possibly_watched(fd, armed) & ~interest
        # Stored before the look at `_waiting`, so that a wait that begins in between includes it.
        self._deferred[fd] = self._changes(fd, interest, unwanted, generation)
        if self._waiting:
            self._change_now(fd, interest, unwanted, generation)

    def remove(self, fd: int, armed: int, /) -> None:
        """EV_DELETE. A descriptor that was closed does not need it."""
        self._watched.pop(fd, None)
        self._change_now(fd, 0, self._possibly_watched(fd, armed), 0)

    def wait(self, timeout: float | None, limit: int, /) -> list[Event]:
        """kevent(2), with the changes that were deferred.

        The kernel's list of ready knotes is a queue. They are taken from its head, and those that
        stay ready are put back at its tail. So those that did not fit come first in the next call.
        """
        deadline = monotonic() + timeout if timeout else 0.0
        # Much room costs nothing: the memory is only touched as far as there are events.
        room = 2 * limit
        ready: dict[int, int] = {}
        self._waiting = True
        try:
            while answer := self._wait_with_changes(timeout, room):
                if answer[0].flags & select.KQ_EV_ERROR:
                    self._collect_refusals(answer, ready)
                else:
                    self._collect_events(answer, ready)
                    if ready:
                        break
                if ready:
                    timeout = 0
                elif timeout:
                    timeout = max(deadline - monotonic(), 0)
        finally:
            self._waiting = False
        return list(ready.items())

    def probe(self, fd: int, interest: int, /) -> int:
        """Ask poll(2) about the descriptor alone."""
        return poll.probe(fd, interest)

    def close(self) -> None:
        """Close the kqueue descriptor."""
        # A forked child does not inherit a kqueue, and has nothing to close (EBADF).
        with contextlib.suppress(OSError):
            self._kqueue.close()

    def _possibly_watched(self, fd: int, armed: int) -> int:
        """Return what the kernel may watch, even if it was not told of `armed` yet."""
        return BOTH if fd in self._deferred else armed

    def _changes(
        self, fd: int, interest: int, unwanted: int, generation: int
    ) -> list[select.kevent]:
        return [
            select.kevent(fd, filter_, action, 0, 0, generation)
            for action, asked in ((select.KQ_EV_ADD, interest), (select.KQ_EV_DELETE, unwanted))
            for event, filter_ in self._filters.items()
            if event & asked
        ]

    def _change_now(self, fd: int, interest: int, unwanted: int, generation: int) -> None:
        """Make changes at once, so that no older change of the descriptor undoes them."""
        # A waiting call may have taken an entry just before it was to be removed here.
        contested = self._deferred.pop(fd, None) is not None or fd in self._in_call
        # With no room for events, none is taken from the queue, and errors are raised.
        added = self._changes(fd, interest, 0, generation)
        if added:
            self._kqueue.control(added, 0, 0)
        for change in self._changes(fd, 0, unwanted, generation):
            # There was none (ENOENT), or the descriptor was closed, which dropped it (EBADF).
            with contextlib.suppress(OSError):
                self._kqueue.control([change], 0, 0)
        if contested and self._waiting:
            self._deferred[fd] = self._changes(fd, interest, unwanted, generation)
            wake_up = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
            self._kqueue.control([select.kevent(0, select.KQ_FILTER_TIMER, wake_up, 0, 1)], 0, 0)

    def _forget(self, fd: int) -> None:
        """Stop watching a descriptor, whatever the kernel watches of it."""
        self._watched.pop(fd, None)
        self._change_now(fd, 0, BOTH, 0)

    def _wait_with_changes(self, timeout: float | None, room: int) -> list[select.kevent]:
        """Wait, and make the deferred changes in the same call."""
        if not self._deferred:
            return self._kqueue.control(None, room, timeout)
        self._in_call, self._deferred = self._deferred, {}
        try:
            changes = [change for told in list(self._in_call.values()) for change in told]
            return self._kqueue.control(changes, max(room, len(changes)), timeout)
        except BaseException:
            # It is not known whether they were made, but making them twice is harmless.
            self._deferred = self._in_call | self._deferred
            raise
        finally:
            self._in_call = {}

    def _collect_events(self, events: list[select.kevent], ready: dict[int, int]) -> None:
        """Collect the events of watched descriptors."""
        watched, readiness = self._watched, self._readiness
        for event in events:
            if event.filter not in readiness:
                continue  # the timer that was to end the call
            fd = event.ident
            _, generation = watched.get(fd, _UNWATCHED)
            if event.udata == generation:
                ready[fd] = ready.get(fd, 0) | readiness[event.filter]
            elif fd not in self._deferred:
                # The event is older than a change by a signal handler or another thread, or the
                # knote is left over.
                self._repair(fd)

    def _repair(self, fd: int) -> None:
        """Make the kernel's knotes of a descriptor what they should be."""
        interest, generation = self._watched.get(fd, _UNWATCHED)
        with contextlib.suppress(OSError):
            self._change_now(fd, interest, BOTH & ~interest, generation)

    def _collect_refusals(self, errors: list[select.kevent], ready: dict[int, int]) -> None:
        """Collect the descriptors whose deferred changes were refused."""
        for error in errors:
            fd = error.ident
            _, generation = self._watched.get(fd, _UNWATCHED)
            if error.data != errno.ENOENT and error.udata == generation:
                # The kernel may have accepted one filter and not the other. Neither is watched
                # after a refusal.
                self._forget(fd)
                ready[fd] = REFUSED


# The entry of a descriptor that is not watched, with a generation that no registration has.
_UNWATCHED = (0, -1)

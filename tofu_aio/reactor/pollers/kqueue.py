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

# Tells the type checker where `select` has a kqueue. Elsewhere the tests put one in its place.
assert not TYPE_CHECKING or (sys.platform != "linux" and sys.platform != "win32")


class KqueuePoller:
    """Watches through `select.kqueue`, level-triggered: without EV_CLEAR.

    Facts of kqueue(2), and what follows from them:

    * The kernel keeps one note for each pair of number and filter, and reading and writing are two
      filters. So a descriptor may come twice in one answer, and is reported once.
    * A filter is ready, with EV_EOF, when its own direction has ended. A hang-up ends both, so it
      reaches whichever interest is registered without more ado; and a peer that has only finished
      writing is not reported to who waits to write.
    * Closing a number drops its notes, whether or not a copy of the file lives on. So after a close
      nothing is left to remove, and no ghost; but a change of mind about a number that was reused
      must add all that is wanted, also what was watched before. To add what is there is harmless.
    * Changes are made before the wait. One that fails comes back with EV_ERROR if there is room,
      else it ends the call with the rest undone; and an answer with errors holds nothing else. So
      there is room for all, and after errors the kernel is asked again. ENOENT means that there
      was nothing to delete, and is none.
    * Python repeats the call after a signal (PEP 475), with its changes. That undoes what a signal
      handler or another thread has told the kernel of the same numbers meanwhile. So it is told
      again in the next call, and the one that waits is ended by a timer that fires at once.
    """

    meaning = MappingProxyType({said: said for said in (READ, WRITE, BOTH, REFUSED)})

    def __init__(self) -> None:
        self._kqueue = select.kqueue()
        self._filters = {READ: select.KQ_FILTER_READ, WRITE: select.KQ_FILTER_WRITE}
        self._readiness = {filter_: said for said, filter_ in self._filters.items()}
        # What is watched: interest and generation by descriptor.
        self._watched: dict[int, tuple[int, int]] = {}
        # Changes by descriptor: those that wait for the next call, and those of the one under way.
        self._deferred: dict[int, list[select.kevent]] = {}
        self._riding: dict[int, list[select.kevent]] = {}
        self._waiting = False

    def add(self, fd: int, interest: int, generation: int, /) -> None:
        """EV_ADD."""
        # Before the call: another thread may be waiting for the event.
        self._watched[fd] = interest, generation
        try:
            self._tell(fd, interest, 0, generation)
        except OSError:
            # The kernel may have taken one filter and not the other.
            self._forget(fd)
            raise

    def modify(self, fd: int, armed: int, interest: int, generation: int, /) -> None:
        """EV_ADD and EV_DELETE, in the next waiting call; at once while one waits."""
        if self._kqueue.closed:
            raise ValueError("I/O operation on closed kqueue object")
        self._watched[fd] = interest, generation
        unwanted = self._perhaps(fd, armed) & ~interest
        # First put down, then looked: a wait that begins in between takes it along.
        self._deferred[fd] = self._changes(fd, interest, unwanted, generation)
        if self._waiting:
            self._tell(fd, interest, unwanted, generation)

    def remove(self, fd: int, armed: int, /) -> None:
        """EV_DELETE; a descriptor that was closed needs none."""
        self._watched.pop(fd, None)
        self._tell(fd, 0, self._perhaps(fd, armed), 0)

    def wait(self, timeout: float | None, limit: int, /) -> list[Event]:
        """kevent(2), with the changes that were deferred.

        The kernel's list of ready notes is a queue: it hands out from the head and puts what stays
        ready back at the tail, so what did not fit comes first in the next call.
        """
        deadline = monotonic() + timeout if timeout else 0.0
        # The room is no cost: it is allocated, and not touched beyond what is ready.
        room = 2 * limit
        said: dict[int, int] = {}
        self._waiting = True
        try:
            while answer := self._ride(timeout, room):
                if answer[0].flags & select.KQ_EV_ERROR:
                    self._hear_errors(answer, said)
                else:
                    self._hear(answer, said)
                    if said:
                        break
                if said:
                    timeout = 0
                elif timeout:
                    timeout = max(deadline - monotonic(), 0)
        finally:
            self._waiting = False
        return list(said.items())

    def probe(self, fd: int, interest: int, /) -> int:
        """Answer with one poll(2) of the descriptor alone."""
        return poll.probe(fd, interest)

    def close(self) -> None:
        """Close the kqueue descriptor."""
        # A forked child does not inherit it, and so has none to close (EBADF).
        with contextlib.suppress(OSError):
            self._kqueue.close()

    def _perhaps(self, fd: int, armed: int) -> int:
        """Return what the kernel may watch, also where `armed` was not told to it yet."""
        return BOTH if fd in self._deferred else armed

    def _changes(
        self, fd: int, interest: int, unwanted: int, generation: int
    ) -> list[select.kevent]:
        return [
            select.kevent(fd, filter_, action, 0, 0, generation)
            for action, asked in ((select.KQ_EV_ADD, interest), (select.KQ_EV_DELETE, unwanted))
            for said, filter_ in self._filters.items()
            if said & asked
        ]

    def _tell(self, fd: int, interest: int, unwanted: int, generation: int) -> None:
        """Tell the kernel at once, and so that no older change of the descriptor prevails."""
        # An entry may have been taken for a call between our looking and our taking it out.
        contested = self._deferred.pop(fd, None) is not None or fd in self._riding
        # Where there is no room for events none is taken from the queue, and errors are raised.
        added = self._changes(fd, interest, 0, generation)
        if added:
            self._kqueue.control(added, 0, 0)
        for change in self._changes(fd, 0, unwanted, generation):
            # There was none (ENOENT), or the descriptor was closed and took it along (EBADF).
            with contextlib.suppress(OSError):
                self._kqueue.control([change], 0, 0)
        if contested and self._waiting:
            self._deferred[fd] = self._changes(fd, interest, unwanted, generation)
            nudge = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
            self._kqueue.control([select.kevent(0, select.KQ_FILTER_TIMER, nudge, 0, 1)], 0, 0)

    def _forget(self, fd: int) -> None:
        """Watch a descriptor no more, whatever the kernel watches of it."""
        self._watched.pop(fd, None)
        self._tell(fd, 0, BOTH, 0)

    def _ride(self, timeout: float | None, room: int) -> list[select.kevent]:
        """Wait, and make the deferred changes on the way."""
        if not self._deferred:
            return self._kqueue.control(None, room, timeout)
        self._riding, self._deferred = self._deferred, {}
        try:
            changes = [change for told in list(self._riding.values()) for change in told]
            return self._kqueue.control(changes, max(room, len(changes)), timeout)
        except BaseException:
            # Whether they were made is not known, and to make them twice is harmless.
            self._deferred = self._riding | self._deferred
            raise
        finally:
            self._riding = {}

    def _hear(self, events: list[select.kevent], said: dict[int, int]) -> None:
        """Collect what is said of what is watched, by descriptor."""
        watched, readiness = self._watched, self._readiness
        for event in events:
            if event.filter not in readiness:
                continue  # the nudge, which has done its work
            fd = event.ident
            _, generation = watched.get(fd, _NOBODY)
            if event.udata == generation:
                said[fd] = said.get(fd, 0) | readiness[event.filter]
            elif fd not in self._deferred:
                # Harvested before a signal handler or another thread changed it, or left over.
                self._correct(fd)

    def _correct(self, fd: int) -> None:
        """Make the kernel's notes of a descriptor what they should be."""
        interest, generation = self._watched.get(fd, _NOBODY)
        with contextlib.suppress(OSError):
            self._tell(fd, interest, BOTH & ~interest, generation)

    def _hear_errors(self, errors: list[select.kevent], said: dict[int, int]) -> None:
        """Collect which of the changes that rode were refused."""
        for error in errors:
            fd = error.ident
            _, generation = self._watched.get(fd, _NOBODY)
            if error.data != errno.ENOENT and error.udata == generation:
                # One filter may have been taken and the other not. Refused is not watched.
                self._forget(fd)
                said[fd] = REFUSED


# What is watched of a descriptor that is not, under a generation that no registration has.
_NOBODY = (0, -1)

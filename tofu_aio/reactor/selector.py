"""The reactor's selector: a table of desired interest, reconciled with the system once a turn.

Facts and what follows from them:

* A number that is removed, closed, reused and added again looks unchanged in the table, but the
  system has forgotten it. So a descriptor's coming and going is told at once. It also lets
  `register` fail there and then (EPERM for a regular file, EBADF), which programs rely on.
* Only a change of mind about a registered descriptor waits for `select`, where only the last
  counts, so what cancels out within a turn costs nothing. A registration that changes hands is
  told again, for its number may have been closed and reused without a word.
* On an empty mask epoll still reports hang-ups and errors, for ever. So nothing wanted means not
  registered.
* A descriptor closed while a copy of it lives on (in a forked child, say) keeps its registration,
  and the number may be reused meanwhile. So numbers under which such a ghost may hide are kept in
  doubt: what the system says of them is checked before it is believed, and once a ghost shows
  itself the poller is replaced by one built from the table.
* A forked child inherits the epoll object itself, not a copy of it: whatever the child told it
  would change its parent's registrations. So the child closes its descriptor, and takes a new one.
"""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import contextlib
import errno
import os
import selectors
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tofu_aio import forks
from tofu_aio.reactor.ghosts import Ghosts
from tofu_aio.reactor.pollers import default_poller
from tofu_aio.reactor.pollers.poller import BOTH, LONGEST_WAIT, READ, REFUSED, WRITE, Event, Poller
from tofu_aio.reactor.statistics import SelectorCounters, SelectorStatistics
from tofu_aio.reactor.table import Registration, Table, TableView

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]


class Keeper(Protocol):
    """Who holds a descriptor open until it closes, such as a transport."""

    def is_closing(self) -> bool:
        """Return whether the descriptor is closed or about to be."""


class ReactorSelector(selectors.BaseSelector):
    """A selector whose work grows with what changes, not with what is registered.

    Everything `selectors.BaseSelector` documents holds. Where the documentation is silent:

    * A `modify` that the system refuses shows in the next `select`, which reports the descriptor
      as ready, once, so that its owner's own call meets the error. What the system has no room for
      is tried again in each `select`, and reported until there is.
    * A `modify` from another thread or a signal handler takes effect at once while `select` waits.
      Beyond that it is no safer from threads than those of the standard library.
    * A forked child that inherits a selector gets a poller of its own, told of all that is
      registered in the child's first `select`. Nothing the child does reaches its parent's. A
      `select` in whose midst a signal handler forks returns early in the child.
    """

    def __init__(self, make_poller: Callable[[], Poller] = default_poller) -> None:
        self._make_poller = make_poller
        self._poller = make_poller()
        self._table: Table = {}
        self._view = TableView(self._table)
        self._closed = False
        self._generation = 0
        # Descriptors whose `armed` may differ from what is wanted, those at rest among them.
        self._changed: set[int] = set()
        # Those that the system has refused to watch, which is not reported yet.
        self._refused: dict[int, Registration] = {}
        # Those that were changed while the poller waited: its answer may be about what was before.
        self._crossed: set[int] = set()
        self._ghosts = Ghosts()
        # What was unregistered and the poller not told yet, with what keeps it open until then.
        self.resting: dict[int, tuple[Registration, Keeper]] = {}
        self._selecting = False
        self._counters = SelectorCounters()
        _living.add(self)

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Start to watch a file object, at once.

        Raises:
            ValueError: The events or the file object are invalid, or the selector is closed.
            KeyError: It is registered already.
            OSError: The system refuses it, as `Poller.add` says.
        """
        registration = self._put_in(fileobj, events, data)
        try:
            self._update(registration, events)
        except BaseException:
            del self._table[registration.key.fd]
            raise
        return registration.key

    def enlist(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Register a file object, but tell the system no sooner than in the next `select`.

        Until then an `unregister` or `rest` of it costs nothing. It is for descriptors known to be
        open and watchable: what the system refuses is reported as by `modify`.

        Raises:
            ValueError: The events or the file object are invalid, or the selector is closed.
            KeyError: It is registered already.
            OSError: The system refuses, while `select` waits in another thread.
        """
        registration = self._put_in(fileobj, events, data)
        self._change(registration)
        return registration.key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Stop to watch a file object, at once; it may have been closed meanwhile.

        Raises:
            ValueError: The file object is invalid.
            KeyError: It is not registered.
        """
        registration = self._take_out(fileobj)
        self._update(registration, 0)
        return registration.key

    def rest(self, fileobj: FileDescriptorLike, keeper: Keeper) -> selectors.SelectorKey:
        """Unregister a file object, but tell the system no sooner than in the next `select`.

        Until then a `register` of the same number costs nothing, and means the same open file. So
        the caller must know that it stays open: `keeper` is held until the system is told, and
        whoever closes the descriptor or hands its number on calls `settle` before.

        Raises:
            ValueError: The file object is invalid.
            KeyError: It is not registered.
        """
        registration = self._take_out(fileobj)
        if self._selecting:
            self._update(registration, 0)
        elif registration.armed:
            self.resting[registration.key.fd] = registration, keeper
            self._changed.add(registration.key.fd)
        return registration.key

    def settle(self, fd: int) -> None:
        """Tell the system now that a number at rest is no longer watched."""
        resting = self.resting.pop(fd, None)
        if resting is not None:
            self._update(resting[0], 0)

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Change what a registered file object is watched for, or its data.

        The key changes at once; the system is told in the next `select`.

        Raises:
            ValueError: The events or the file object are invalid. The registration stays as it was.
            KeyError: It is not registered.
            OSError: The system refuses, while `select` waits in another thread.
        """
        registration = self._view.find(fileobj)
        if events not in _VALID:
            raise ValueError(f"Invalid events: {events!r}")
        old = registration.key
        registration.key = selectors.SelectorKey(old.fileobj, old.fd, events, data)
        if events != old.events:
            self._counters.asked_modifies += 1
        self._change(registration)
        return registration.key

    def renew(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Do as `modify`, and tell the system also what it has been told before.

        It is for a registration that changes hands: the number may have been closed and reused in
        between, and the system knows nothing of its new file.

        Raises:
            ValueError, KeyError, OSError: As `modify`.
        """
        registration = self._view.find(fileobj)
        registration.stale = True
        return self.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Ready:
        """Reconcile, wait and harvest.

        Args:
            timeout: Seconds; None to wait for ever, 0 or less to only look.

        Returns:
            The keys of ready file objects with what each is ready for, in the order they became
            ready. Empty when the time is up, never sooner, or where a signal handler raised
            InterruptedError; any other exception of a handler escapes.

        Raises:
            ValueError: The selector is closed, or the timeout is not a number.
        """
        rest = timeout
        deadline = None  # nothing is measured against it where the wait has no end, or no length
        if timeout is not None and timeout <= 0:
            rest = 0
        elif timeout is not None:
            deadline = monotonic() + timeout
            rest = min(timeout, LONGEST_WAIT)
        self._selecting = True
        poller = self._poller
        try:
            while True:
                if self._changed and not self._reconcile():
                    rest = 0
                newest = self._generation
                poller = self._poller
                events = poller.wait(rest, len(self._table) or 1)
                ready = self._harvest(events, newest) if events else []
                if self._refused:
                    return self._report_refused(ready)
                if ready:
                    return ready
                if rest == 0:
                    return []
                if deadline is not None:
                    rest = min(deadline - monotonic(), LONGEST_WAIT)
                    if rest <= 0:
                        return []
        except OSError as error:
            # In a child that a signal handler has forked the poller that it waited on is closed.
            if poller is self._poller and not isinstance(error, InterruptedError):
                raise
            return []
        finally:
            self._selecting = False

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return a live view of what is registered; None, as in `selectors`, once closed."""
        # Typeshed leaves out the None.
        return None if self._closed else self._view  # type: ignore[return-value]

    def close(self) -> None:
        """Forget every registration and let go of the poller; closing again does nothing."""
        _living.discard(self)
        self._poller.close()
        self._table.clear()
        self._changed.clear()
        self.resting.clear()
        self._closed = True

    def statistics(self) -> SelectorStatistics:
        """Return what the selector has done so far; it may be closed."""
        return self._counters.snapshot(len(self._table))

    def _put_in(self, fileobj: FileDescriptorLike, events: int, data: object) -> Registration:
        if self._closed:
            raise ValueError("this selector is closed")
        if events not in _VALID:
            raise ValueError(f"Invalid events: {events!r}")
        fd = self._view.descriptor_of(fileobj)
        if fd in self._table:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._counters.asked_adds += 1
        self._generation += 1
        registration = Registration(
            selectors.SelectorKey(fileobj, fd, events, data), self._generation
        )
        if fd in self.resting:
            # Still armed for the same open file: this is a change of mind.
            registration.armed = self.resting.pop(fd)[0].armed
        # Before the system is told: another thread's `select` may see the event at once.
        self._table[fd] = registration
        self._cross(fd)
        return registration

    def _take_out(self, fileobj: FileDescriptorLike) -> Registration:
        registration = self._view.find(fileobj)
        del self._table[registration.key.fd]
        self._cross(registration.key.fd)
        self._counters.asked_removes += 1
        return registration

    def _cross(self, fd: int) -> None:
        if self._selecting:
            self._crossed.add(fd)

    def _change(self, registration: Registration) -> None:
        """Note a change of mind for the next `select`, or make it where one is waiting already."""
        if registration.stale or registration.armed != registration.key.events:
            self._changed.add(registration.key.fd)
            if self._selecting:
                self._crossed.add(registration.key.fd)
                self._update(registration, registration.key.events)

    def _update(self, registration: Registration, wanted: int) -> None:
        """Make the poller watch what is wanted: the one place where it is told anything."""
        fd = registration.key.fd
        armed = registration.armed
        if armed == wanted and not (armed and registration.stale):
            return
        registration.armed = 0
        registration.stale = False
        if armed:
            try:
                if not wanted:
                    self._counters.issued_removes += 1
                    self._poller.remove(fd, armed)
                    return
                self._counters.issued_modifies += 1
                self._poller.modify(fd, armed, wanted, registration.generation)
            except OSError as error:
                # Closed before it was unregistered. If that was the last copy the system has
                # forgotten it; if not, a ghost stays, and nothing tells which.
                self._ghosts.numbers.add(fd)
                if not wanted:
                    return
                if error.errno != errno.ENOENT:
                    raise
                # The number was reused: the program means the file that has it now.
                armed = 0
        if not armed:
            self._counters.issued_adds += 1
            self._poller.add(fd, wanted, registration.generation)
        registration.armed = wanted

    def _reconcile(self) -> bool:
        """Tell the poller what has changed; return whether it took all."""
        # Until nothing is left: a signal handler may change its mind about what was just told. And
        # nothing counts as told before it was: a handler that raises here ends all of this.
        while pending := self._changed - self._refused.keys():
            for fd in pending:
                self.settle(fd)
                registration = self._table.get(fd)
                if registration is None or self._tell(registration):
                    self._changed.discard(fd)
        return not self._refused

    def _tell(self, registration: Registration) -> bool:
        """Tell the poller what is wanted of a descriptor; return whether that was the last word."""
        key = registration.key
        try:
            self._update(registration, key.events)
        except OSError as error:
            self._refused[key.fd] = registration
            return error.errno not in _NO_ROOM
        return registration.armed == registration.key.events

    def _report_refused(self, ready: Ready) -> Ready:
        """Add what was refused to what is ready."""
        refused, self._refused = self._refused, {}
        for fd in refused.keys() - {key.fd for key, _ in ready}:
            registration = refused[fd]
            if self._table.get(fd) is registration:
                ready.append((registration.key, registration.key.events))
                self._counters.delivered += 1
        return ready

    def _harvest(self, events: list[Event], newest: int) -> Ready:
        """Return what the events say of the table, where each can simply be believed."""
        if newest == self._generation and not self._ghosts.numbers:
            ready: Ready = []
            table = self._table
            meaning = self._poller.meaning
            try:
                for fd, flags in events:
                    key = table[fd].key
                    useful = meaning[flags] & key.events
                    if not useful:
                        break
                    ready.append((key, useful))
                else:
                    self._counters.delivered += len(ready)
                    return ready
            except KeyError:
                pass
        return self._examine(events, newest)

    def _examine(self, events: list[Event], newest: int) -> Ready:
        """Find out what of the events is to be believed."""
        claims: dict[int, tuple[selectors.SelectorKey, int]] = {}
        for fd, flags in events:
            registration = self._table.get(fd)
            if registration is not None and registration.generation > newest:
                # Registered while the poller waited, by a thread or a signal handler. If it is
                # true of this registration too it will be said again: readiness is level-triggered.
                self._counters.dropped += 1
                continue
            said = self._poller.meaning.get(flags, BOTH)
            if registration is not None and said & REFUSED:
                registration.armed = 0
                if not self._tell(registration):
                    self._changed.add(fd)
                continue
            useful = said & registration.key.events if registration is not None else 0
            if registration is None or not useful or fd in claims:
                if fd not in self._crossed:
                    self._ghosts.meet(fd)
                self._counters.dropped += 1
            else:
                claims[fd] = registration.key, useful
        self._crossed.clear()
        ready = [
            (key, useful) for key, claim in claims.values() if (useful := self._true(key, claim))
        ]
        self._counters.dropped += len(claims) - len(ready)
        self._counters.delivered += len(ready)
        if self._ghosts.worth_a_new_poller(len(self._table)):
            self._rebuild()
        return ready

    def _true(self, key: selectors.SelectorKey, claimed: int) -> int:
        """Return how much of what was said of a registration is true of it."""
        if key.fd not in self._ghosts.numbers:
            return claimed
        return self._ghosts.confirm(claimed, self._poller.probe(key.fd, claimed))

    def _rebuild(self) -> None:
        """Take a new poller, which the next wait tells all that the table wants."""
        try:
            poller = self._make_poller()
        except OSError:
            return  # No descriptor to spare: a haunted poller is better than none.
        self._counters.rebuilds += 1
        self._start_over(self._check)
        old, self._poller = self._poller, poller
        old.close()

    def _check(self, registration: Registration) -> None:
        """Raise OSError where the poller has forgotten a descriptor, for it was closed."""
        armed = registration.armed
        if armed:
            self._poller.modify(registration.key.fd, armed, armed, registration.generation)

    def _leave_parent(self) -> None:
        """In a forked child: take a new poller, without a word to the one that is the parent's."""
        self._selecting = False
        # First: there is one descriptor more then. And a kqueue is not inherited, so a new one may
        # get the old one's number, and be closed with it (CPython before 3.12.1 does not mark the
        # object as closed).
        self._poller.close()
        self._poller = self._make_poller()
        # Nothing but the old one knows which number was closed without a word, and reused.
        self._start_over(lambda registration: os.fstat(registration.key.fd))

    def _start_over(self, check: Callable[[Registration], object]) -> None:
        """Note for the next `select` to tell a new poller all that the old one knows.

        What has been closed without a word is left out, as far as the check can tell. Whoever has
        the number now did not register it.
        """
        self.resting.clear()
        self._ghosts = Ghosts()
        for registration in list(self._table.values()):
            with contextlib.suppress(OSError):
                check(registration)
                self._changed.add(registration.key.fd)
            registration.armed = 0


_VALID = frozenset({READ, WRITE, BOTH})

# The system's trouble; anything else is to be blamed on the descriptor.
_NO_ROOM = frozenset({errno.ENOMEM, errno.ENOSPC})


def _leave_parent(selector: ReactorSelector) -> None:
    selector._leave_parent()


_living = forks.inherited(_leave_parent)

"""The reactor's selector: a table of desired interest, reconciled with the system once a turn.

Facts and what follows from them:

* A number that is removed, closed, reused and added again looks unchanged in the table, but the
  system has forgotten it. So a descriptor's coming and going is told at once. It also lets
  `register` fail there and then (EPERM for a regular file, EBADF), which programs rely on.
* Only a change of mind about a registered descriptor waits for `select`, where only the last
  counts, so what cancels out within a turn costs nothing.
* On an empty mask epoll still reports hang-ups and errors, for ever. So nothing wanted means not
  registered.
* A descriptor closed while a copy of it lives on (in a forked child, say) keeps its registration,
  and the number may be reused meanwhile. So numbers under which such a ghost may hide are kept in
  doubt: what the system says of them is checked before it is believed, and once a ghost shows
  itself the poller is replaced by one built from the table.
"""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import errno
import os
import selectors
import weakref
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from tofu_aio.reactor.pollers import default_poller
from tofu_aio.reactor.pollers.poller import BOTH, REFUSED, Event, Poller
from tofu_aio.reactor.table import Registration, Table, TableView

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]


class ReactorSelector(selectors.BaseSelector):
    """A selector whose work grows with what changes, not with what is registered.

    Everything `selectors.BaseSelector` documents holds. Where the documentation is silent:

    * A `modify` that the system refuses shows in the next `select`, which reports the descriptor
      as ready, once, so that its owner's own call meets the error.
    * A `modify` from another thread or a signal handler takes effect at once while `select` waits.
    * A forked child that inherits a selector gets a poller of its own, so what it does to its
      registrations does not reach its parent's.
    """

    def __init__(self, make_poller: Callable[[], Poller] = default_poller) -> None:
        self._make_poller = make_poller
        self._poller = make_poller()
        self._table = Table()
        self._view: TableView | None = TableView(self._table)
        self._generation = 0
        # Registered descriptors whose `armed` may differ from what is wanted.
        self._changed: set[int] = set()
        # Numbers under which the poller may watch a file that the table does not know, and how
        # often an answer about one had to be checked since the poller was made.
        self._doubted: set[int] = set()
        self._checks = 0
        self._selecting = False
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
        _check(events)
        fd = self._table.descriptor_of(fileobj)
        if fd in self._table:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._generation += 1
        registration = Registration(
            selectors.SelectorKey(fileobj, fd, events, data), self._generation
        )
        # In the table first: another thread's `select` may see the event before `_update` returns.
        self._table[fd] = registration
        try:
            self._update(registration, events)
        except BaseException:
            del self._table[fd]
            raise
        return registration.key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Stop to watch a file object, at once; it may have been closed meanwhile.

        Raises:
            ValueError: The file object is invalid.
            KeyError: It is not registered.
        """
        registration = self._table.find(fileobj)
        del self._table[registration.key.fd]
        self._update(registration, 0)
        return registration.key

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
        registration = self._table.find(fileobj)
        _check(events)
        old = registration.key
        registration.key = selectors.SelectorKey(old.fileobj, old.fd, events, data)
        if events != registration.armed:
            self._changed.add(old.fd)
            if self._selecting:
                self._update(registration, events)
        return registration.key

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
            OSError: The system has no room for a change (ENOMEM, ENOSPC).
        """
        if timeout is not None and timeout <= 0:
            timeout = 0
        self._selecting = True
        try:
            return self._wait(timeout)
        except InterruptedError:
            return []
        finally:
            self._selecting = False

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return a live view of what is registered; None, as in `selectors`, once closed."""
        return self._view  # type: ignore[return-value]  # typeshed leaves out the None

    def close(self) -> None:
        """Forget every registration and let go of the poller; closing again does nothing."""
        _living.discard(self)
        self._poller.close()
        self._table.clear()
        self._changed.clear()
        self._doubted.clear()
        self._view = None

    def _update(self, registration: Registration, wanted: int) -> None:
        """Make the poller watch what is wanted: the one place where it is told anything."""
        fd = registration.key.fd
        armed = registration.armed
        if armed == wanted:
            return
        registration.armed = 0
        if armed:
            try:
                if not wanted:
                    self._poller.remove(fd, armed)
                    return
                self._poller.modify(fd, armed, wanted, registration.generation)
            except OSError as error:
                # Closed before it was unregistered. If that was the last copy the system has
                # forgotten it; if not, a ghost stays, and nothing tells which.
                self._doubted.add(fd)
                if not wanted:
                    return
                if error.errno != errno.ENOENT:
                    raise
                # The number was reused: the program means the file that has it now.
                armed = 0
        if not armed:
            self._poller.add(fd, wanted, registration.generation)
        registration.armed = wanted

    def _reconcile(self, ready: Ready) -> None:
        """Tell the poller what has changed, and report what it refuses as ready."""
        while self._changed:
            registration = self._table.get(self._changed.pop())
            if registration is not None:
                self._settle(registration, ready)

    def _settle(self, registration: Registration, ready: Ready) -> None:
        key = registration.key
        try:
            self._update(registration, key.events)
        except OSError as error:
            if error.errno not in _UNWATCHABLE:
                self._changed.add(key.fd)
                raise
            ready.append((key, key.events))

    def _wait(self, timeout: float | None) -> Ready:
        ready: Ready = []
        start = monotonic()
        rest = timeout
        while True:
            if self._changed:
                self._reconcile(ready)
                if ready:
                    return ready
            events = self._poller.wait(rest, len(self._table), self._generation)
            self._harvest(events, ready)
            if ready or timeout == 0:
                return ready
            if timeout is not None:
                rest = timeout - (monotonic() - start)
                if rest <= 0:
                    return ready

    def _harvest(self, events: list[Event], ready: Ready) -> None:
        """Add what the events say to `ready`, if it is about the table's registrations."""
        table = self._table
        doubted = self._doubted
        strange: list[Event] = []
        for event in events:
            fd, readiness, generation = event
            registration = table.get(fd)
            # What was registered while the poller waited, by a thread or a signal handler, is
            # newer than the event. If it is true of it too it will be said again: readiness is
            # level-triggered.
            if registration is not None and registration.generation <= generation:
                key = registration.key
                useful = readiness & key.events
                if useful and fd not in doubted:
                    ready.append((key, useful))
                else:
                    strange.append(event)
            elif registration is None:
                strange.append(event)
        if strange:
            self._examine(strange, ready)

    def _examine(self, events: list[Event], ready: Ready) -> None:
        """Deal with events that cannot simply be believed."""
        haunted = False
        checked: set[int] = set()
        for fd, readiness, _ in events:
            registration = self._table.get(fd)
            claimed = 0 if registration is None else readiness & registration.key.events
            if registration is not None and readiness & REFUSED:
                registration.armed = 0
                self._settle(registration, ready)
            elif registration is None or not claimed:
                # Once may be a change that crossed the harvest; twice is a ghost.
                haunted |= fd in self._doubted
                self._doubted.add(fd)
            elif fd in checked:
                haunted = True
            else:
                checked.add(fd)
                actual = self._poller.probe(fd, claimed)
                haunted |= actual != claimed
                if actual:
                    ready.append((registration.key, actual))
        # Building anew costs a change per descriptor. As many checks have paid for it, so that a
        # program that closes before it unregisters pays two calls an event at most.
        self._checks += len(checked)
        if haunted or self._checks > len(self._table):
            self._rebuild()

    def _rebuild(self) -> None:
        """Take a new poller, which the next wait tells all that the table wants."""
        try:
            poller = self._make_poller()
        except OSError:
            return  # No descriptor to spare: a haunted poller is better than none.
        self._poller.close()
        self._poller = poller
        self._doubted.clear()
        self._checks = 0
        for registration in self._table.values():
            registration.armed = 0
        self._changed.update(self._table)

    def _leave_parent(self) -> None:
        # An inherited epoll or kqueue object is the parent's own, not a copy: to remove a
        # descriptor from it, as closing the loop does, would make the parent deaf.
        self._selecting = False
        self._rebuild()


def _check(events: int) -> None:
    if not events or events & ~BOTH:
        raise ValueError(f"Invalid events: {events!r}")


# What a descriptor itself is to blame for; anything else is the system's trouble.
_UNWATCHABLE = frozenset({errno.EBADF, errno.EPERM})

_living: weakref.WeakSet[ReactorSelector] = weakref.WeakSet()


def _leave_parents() -> None:
    for selector in list(_living):
        selector._leave_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_parents)

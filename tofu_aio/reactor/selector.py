"""The reactor's selector: a table of desired interest, reconciled with the system once a turn.

Facts, and what follows from them:

* A number that is removed, closed, reused and added again looks unchanged in the table, but the
  system has dropped its registration. So the system is told at once when a descriptor is added or
  removed. That also lets `register` fail immediately (EPERM for a regular file, EBADF), which
  programs rely on.
* A change to a registered descriptor waits for `select`, and only the last one counts. So changes
  that cancel each other within a turn cost nothing. A registration that changes hands is told
  again, because its number may have been closed and reused without unregistering it.
* With an empty mask epoll still reports hang-ups and errors, in every wait. So a descriptor of
  which nothing is wanted is not registered.
* A descriptor that is closed while a copy of it lives on, for example in a forked child, leaves a
  stale registration, and its number may be reused. So events are confirmed for numbers that may
  have one, and the poller is replaced once one is found: see `stale_registrations`.
* A forked child inherits the epoll object itself, not a copy of it. Whatever the child told it
  would change the registrations of its parent. So the child closes its descriptor of the object,
  and takes a new one.
"""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from tofu_aio import forks
from tofu_aio.reactor.pollers import default_poller
from tofu_aio.reactor.pollers.poller import BOTH, LONGEST_WAIT, READ, REFUSED, WRITE, Event, Poller
from tofu_aio.reactor.reconciler import Keeper, Reconciler
from tofu_aio.reactor.statistics import SelectorStatistics
from tofu_aio.reactor.table import Registration

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]


class ReactorSelector(Reconciler, selectors.BaseSelector):
    """A selector whose work grows with the number of changes, not of registered descriptors.

    Everything that `selectors.BaseSelector` documents holds. Where it is silent:

    * If the system refuses a `modify`, the next `select` reports the descriptor as ready, once, so
      that its owner's own call meets the error. If the system lacks room, each `select` tries again
      and reports the descriptor until there is room.
    * A `modify` from another thread or from a signal handler takes effect at once while `select`
      waits. Apart from that the selector is no more thread-safe than those of the standard library.
    * In a forked child an inherited selector gets a new poller, which is told about all
      registrations in the child's first `select`. Nothing that the child does affects the parent.
      If a signal handler forks during a `select`, that call returns early in the child.
    """

    def __init__(self, make_poller: Callable[[], Poller] = default_poller) -> None:
        super().__init__(make_poller)
        self._closed = False
        _living.add(self)

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Start watching a file object. The system is told at once.

        Raises:
            ValueError: The events or the file object are invalid, or the selector is closed.
            KeyError: The file object is registered already.
            OSError: The system refuses it: EBADF, EPERM, ENOSPC or ENOMEM.
        """
        registration = self._insert(fileobj, events, data)
        try:
            self._update_poller(registration, events)
        except BaseException:
            del self._table[registration.key.fd]
            raise
        return registration.key

    def enlist(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Register a file object, and tell the system only in the next `select`.

        Until then `unregister` and `rest` cost nothing. Use it only for descriptors that are known
        to be open and watchable: a refusal by the system is reported as for `modify`.

        Raises:
            ValueError: The events or the file object are invalid, or the selector is closed.
            KeyError: The file object is registered already.
            OSError: The system refuses it while `select` waits in another thread.
        """
        registration = self._insert(fileobj, events, data)
        self._apply_change(registration)
        return registration.key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Stop watching a file object, which may be closed already. The system is told at once.

        Raises:
            ValueError: The file object is invalid.
            KeyError: The file object is not registered.
        """
        registration = self._remove(fileobj)
        self._update_poller(registration, 0)
        return registration.key

    def rest(self, fileobj: FileDescriptorLike, keeper: Keeper) -> selectors.SelectorKey:
        """Unregister a file object, and tell the system only in the next `select`.

        Until then a `register` of the same number costs nothing, and means the same open file. So
        the caller must know that the file stays open. The selector holds a reference to `keeper`
        until the system is told, and `settle` must be called before the descriptor is closed or its
        number is given to another owner.

        Raises:
            ValueError: The file object is invalid.
            KeyError: The file object is not registered.
        """
        registration = self._remove(fileobj)
        if self._selecting:
            self._update_poller(registration, 0)
        elif registration.armed:
            self.resting[registration.key.fd] = registration, keeper
            self._changed.add(registration.key.fd)
        return registration.key

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Change what a registered file object is watched for, or its data.

        The key changes at once; the system is told in the next `select`.

        Raises:
            ValueError: The events or the file object are invalid. The registration is unchanged.
            KeyError: The file object is not registered.
            OSError: The system refuses the change while `select` waits in another thread.
        """
        registration = self._view.find(fileobj)
        if events not in _VALID:
            raise ValueError(f"Invalid events: {events!r}: use EVENT_READ, EVENT_WRITE or both")
        old = registration.key
        registration.key = selectors.SelectorKey(old.fileobj, old.fd, events, data)
        if events != old.events:
            self._counters.asked_modifies += 1
        self._apply_change(registration)
        return registration.key

    def renew(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Do the same as `modify`, and tell the system even if nothing changes.

        It is for a registration that changes hands: its number may have been closed and reused in
        between, and then the system does not watch the new file yet.

        Raises:
            ValueError, KeyError, OSError: As for `modify`.
        """
        registration = self._view.find(fileobj)
        registration.renewed = True
        return self.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Ready:
        """Tell the system what has changed, and wait until a file object is ready.

        Args:
            timeout: The longest wait in seconds. None waits without limit; with 0 or less the call
                returns at once.

        Returns:
            The keys of the file objects that are ready, each with the events that it is ready for,
            in the order in which they became ready. The list is empty once the timeout has passed,
            and if a signal handler raised InterruptedError. Any other exception of a signal handler
            is propagated.

        Raises:
            ValueError: The selector is closed, or the timeout is NaN.
        """
        rest = timeout
        deadline = None  # not needed for a wait without limit, nor for one that returns at once
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
                ready = self._interpret(events, newest) if events else []
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
            # In a child that was forked by a signal handler, the poller of this wait is closed.
            if poller is self._poller and not isinstance(error, InterruptedError):
                raise
            return []
        finally:
            self._selecting = False

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return a live view of the registrations, or None, as in `selectors`, once closed."""
        # typeshed does not know of the None.
        return None if self._closed else self._view  # type: ignore[return-value]

    def close(self) -> None:
        """Drop all registrations and close the poller. Closing again does nothing."""
        _living.discard(self)
        self._poller.close()
        self._table.clear()
        self._changed.clear()
        self.resting.clear()
        self._closed = True

    def statistics(self) -> SelectorStatistics:
        """Return what the selector has done so far, also after it was closed."""
        return self._counters.snapshot(len(self._table))

    def _insert(self, fileobj: FileDescriptorLike, events: int, data: object) -> Registration:
        if self._closed:
            raise ValueError("the selector is closed: nothing can be registered")
        if events not in _VALID:
            raise ValueError(f"Invalid events: {events!r}: use EVENT_READ, EVENT_WRITE or both")
        fd = self._view.descriptor_of(fileobj)
        if fd in self._table:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._counters.asked_adds += 1
        self._generation += 1
        registration = Registration(
            selectors.SelectorKey(fileobj, fd, events, data), self._generation
        )
        if fd in self.resting:
            # The poller still watches the same open file, so there may be nothing to tell it.
            registration.armed = self.resting.pop(fd)[0].armed
        # Before the system is told, because `select` in another thread may get an event at once.
        self._table[fd] = registration
        self._note_crossing(fd)
        return registration

    def _remove(self, fileobj: FileDescriptorLike) -> Registration:
        registration = self._view.find(fileobj)
        del self._table[registration.key.fd]
        self._note_crossing(registration.key.fd)
        self._counters.asked_removes += 1
        return registration

    def _report_refused(self, ready: Ready) -> Ready:
        """Add the descriptors that the system has refused to those that are ready."""
        refused, self._refused = self._refused, {}
        for fd in refused.keys() - {key.fd for key, _ in ready}:
            registration = refused[fd]
            if self._table.get(fd) is registration:
                ready.append((registration.key, registration.key.events))
                self._counters.delivered += 1
        return ready

    def _interpret(self, events: list[Event], newest: int) -> Ready:
        """Return what is ready. This is the fast path, for events that need no second look.

        Args:
            events: From the poller.
            newest: The generation of the last registration made before the wait.
        """
        if newest == self._generation and not self._stale.suspects:
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
        return self._interpret_carefully(events, newest)

    def _interpret_carefully(self, events: list[Event], newest: int) -> Ready:
        """Return what is ready, and find out which events are not to be believed."""
        claims: dict[int, tuple[selectors.SelectorKey, int]] = {}
        for fd, flags in events:
            registration = self._table.get(fd)
            if registration is not None and registration.generation > newest:
                # Registered while the poller waited, by a thread or a signal handler. If the new
                # registration is ready too, the next wait reports it: readiness is level-triggered.
                self._counters.dropped += 1
                continue
            reported = self._poller.meaning.get(flags, BOTH)
            if registration is not None and reported & REFUSED:
                registration.armed = 0
                if not self._try_update(registration):
                    self._changed.add(fd)
                continue
            useful = reported & registration.key.events if registration is not None else 0
            if registration is None or not useful or fd in claims:
                if fd not in self._crossed:
                    self._stale.note_unexpected_event(fd)
                self._counters.dropped += 1
            else:
                claims[fd] = registration.key, useful
        self._crossed.clear()
        ready = [
            (key, useful)
            for key, reported in claims.values()
            if (useful := self._confirmed(key, reported))
        ]
        self._counters.dropped += len(claims) - len(ready)
        self._counters.delivered += len(ready)
        if self._stale.require_new_poller(len(self._table)):
            self._replace_poller()
        return ready

    def _confirmed(self, key: selectors.SelectorKey, reported: int) -> int:
        """Return which of the reported events the registration's descriptor really has."""
        if key.fd not in self._stale.suspects:
            return reported
        return self._stale.confirm(reported, self._poller.probe(key.fd, reported))


_VALID = frozenset({READ, WRITE, BOTH})


def _leave_parent(selector: ReactorSelector) -> None:
    selector._leave_parent()


_living = forks.inherited(_leave_parent)

"""Keeping the poller in line with the table of desired interest."""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Protocol

from tofu_aio.reactor.pollers.poller import Poller
from tofu_aio.reactor.stale_registrations import StaleRegistrations
from tofu_aio.reactor.statistics import SelectorCounters
from tofu_aio.reactor.table import Registration, Table, TableView


class Keeper(Protocol):
    """An object that keeps a descriptor open until it closes, such as a transport."""

    def is_closing(self) -> bool:
        """Return whether the descriptor is closed or about to be closed."""


class Reconciler:
    """The half of the selector that talks to the poller: it tells it what the table wants.

    This is a base class, not an object of its own, because the selector reads and writes the same
    state for each change and each event.

    Args:
        make_poller: Makes the first poller, and each one that replaces it.

    Attributes:
        resting: Registrations that were removed without telling the poller yet, each with the
            object that keeps the descriptor open until then.
    """

    def __init__(self, make_poller: Callable[[], Poller]) -> None:
        self._make_poller = make_poller
        self._poller = make_poller()
        self._table: Table = {}
        self._view = TableView(self._table)
        self._generation = 0
        # Descriptors whose `armed` may differ from what is wanted, including those at rest.
        self._changed: set[int] = set()
        # Registrations that the system has refused, which is not reported yet.
        self._refused: dict[int, Registration] = {}
        # Descriptors that were changed while the poller waited. Its answer may predate the change.
        self._crossed: set[int] = set()
        self._stale = StaleRegistrations()
        self.resting: dict[int, tuple[Registration, Keeper]] = {}
        self._selecting = False
        self._counters = SelectorCounters()

    def settle(self, fd: int) -> None:
        """Tell the system now that a number at rest is no longer watched."""
        resting = self.resting.pop(fd, None)
        if resting is not None:
            self._update_poller(resting[0], 0)

    def _note_crossing(self, fd: int) -> None:
        if self._selecting:
            self._crossed.add(fd)

    def _apply_change(self, registration: Registration) -> None:
        """Leave a change to the next `select`, or make it now if one is waiting already."""
        if registration.renewed or registration.armed != registration.key.events:
            self._changed.add(registration.key.fd)
            if self._selecting:
                self._crossed.add(registration.key.fd)
                self._update_poller(registration, registration.key.events)

    def _update_poller(self, registration: Registration, wanted: int) -> None:
        """Make the poller watch what is wanted. All changes of interest go through here."""
        fd = registration.key.fd
        armed = registration.armed
        if armed == wanted and not (armed and registration.renewed):
            return
        registration.armed = 0
        registration.renewed = False
        if armed:
            try:
                if not wanted:
                    self._counters.issued_removes += 1
                    self._poller.remove(fd, armed)
                    return
                self._counters.issued_modifies += 1
                self._poller.modify(fd, armed, wanted, registration.generation)
            except OSError as error:
                # The descriptor was closed before it was unregistered. If that was the last copy
                # of the file, the system has dropped the registration. If not, a stale one is left.
                # There is no way to find out which.
                self._stale.suspects.add(fd)
                if not wanted:
                    return
                if error.errno != errno.ENOENT:
                    raise
                # The number was reused, and the program means the file that has it now.
                armed = 0
        if not armed:
            self._counters.issued_adds += 1
            self._poller.add(fd, wanted, registration.generation)
        registration.armed = wanted

    def _reconcile(self) -> bool:
        """Tell the poller everything that has changed, and return whether it accepted all of it."""
        # Repeated until nothing is left, because a signal handler may change again what the poller
        # was just told. A descriptor leaves `_changed` only after the poller was told, because a
        # handler that raises here ends all of this.
        while pending := self._changed - self._refused.keys():
            for fd in pending:
                self.settle(fd)
                registration = self._table.get(fd)
                if registration is None or self._try_update(registration):
                    self._changed.discard(fd)
        return not self._refused

    def _try_update(self, registration: Registration) -> bool:
        """Tell the poller what is wanted of a descriptor; return whether that is final.

        It is not if the system has no room for the descriptor, or if a signal handler has changed
        what is wanted meanwhile. A refusal is kept to be reported.
        """
        key = registration.key
        try:
            self._update_poller(registration, key.events)
        except OSError as error:
            self._refused[key.fd] = registration
            return error.errno not in _NO_ROOM
        return registration.armed == registration.key.events

    def _replace_poller(self) -> None:
        """Take a new poller. The next wait tells it everything that the table wants."""
        try:
            poller = self._make_poller()
        except OSError:
            return  # There is no free descriptor. A poller with stale registrations still works.
        self._counters.rebuilds += 1
        self._register_all_again(self._check_known)
        old, self._poller = self._poller, poller
        old.close()

    def _check_known(self, registration: Registration) -> None:
        """Raise OSError if the poller has dropped a descriptor, because it was closed."""
        armed = registration.armed
        if armed:
            self._poller.modify(registration.key.fd, armed, armed, registration.generation)

    def _leave_parent(self) -> None:
        """In a forked child, take a new poller without changing the one that the parent uses."""
        self._selecting = False
        # The old one is closed first, which frees a descriptor for the new one. And a kqueue is not
        # inherited, so the new one may get the old one's number, and would be closed with it later
        # (CPython before 3.12.1 does not mark the old object as closed).
        self._poller.close()
        self._poller = self._make_poller()
        # Only the old poller knew which numbers were closed and reused without unregistering.
        self._register_all_again(lambda registration: os.fstat(registration.key.fd))

    def _register_all_again(self, check: Callable[[Registration], object]) -> None:
        """Have the next `select` tell a new poller all that the old one knew.

        Args:
            check: Raises OSError for a descriptor that was closed without unregistering it. It is
                left out, because the file that has its number now was not registered.
        """
        self.resting.clear()
        self._stale = StaleRegistrations()
        for registration in list(self._table.values()):
            with contextlib.suppress(OSError):
                check(registration)
                self._changed.add(registration.key.fd)
            registration.armed = 0


# The system lacks resources. Every other error is the fault of the descriptor.
_NO_ROOM = frozenset({errno.ENOMEM, errno.ENOSPC})

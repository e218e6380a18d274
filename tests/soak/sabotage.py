"""Breaks the library, to show that a soak finds it: ``nox -s soak -- --sabotage permit``."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable

from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.delivery.dispatcher import Dispatcher
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.pool import Pool
from tofu_aio.reactor import ReactorSelector

_left: list[object] = []


def lose_a_permit() -> None:
    """Lose a permit every 20th time that some are taken."""
    _with_each_20th_charge(lambda pool: pool.free and pool.free.pop())


def give_a_permit_twice() -> None:
    """Give back a permit too many every 20th time that some are taken."""
    _with_each_20th_charge(lambda pool: pool.free.append(None))


def lose_a_message() -> None:
    """Drop the last message of every 100th batch."""
    _spoil(lambda batch: batch[-1:] and batch.pop().release())


def swap_messages() -> None:
    """Reverse every 100th batch."""
    _spoil(list.reverse)


def keep_a_descriptor() -> None:
    """Duplicate the descriptor of every tenth connection."""
    _with_each_tenth(
        lambda connection: _left.append(
            socket.dup(connection.extra_info("socket").fileno())  # type: ignore[attr-defined]
        )
    )


def keep_a_task() -> None:
    """Start a task that never ends for every tenth connection."""
    _with_each_tenth(lambda _: _left.append(asyncio.ensure_future(asyncio.Event().wait())))


def keep_memory() -> None:
    """Keep a megabyte and 500 objects for every tenth connection."""
    _with_each_tenth(lambda _: _left.append((bytes(1 << 20), [[i] for i in range(500)])))


def log_a_warning() -> None:
    """Log a warning for every tenth connection."""
    _with_each_tenth(lambda _: logging.getLogger("tofu_aio").warning("it is dark in here"))


def keep_a_number() -> None:
    """Do not forget every tenth channel."""
    count, closed = itertools.count(1), Dispatcher.closed

    def unforgetting(self: Dispatcher[object]) -> None:
        if next(count) % 10:
            closed(self)

    Dispatcher.closed = unforgetting  # type: ignore[method-assign]


def never_resume_reading() -> None:
    """Do not resume reading every 20th time."""
    count, reconcile = itertools.count(1), Connection.reconcile_reading

    def deaf(self: Connection) -> None:
        if self.decoder.starved or next(count) % 20:
            reconcile(self)

    Connection.reconcile_reading = deaf  # type: ignore[method-assign]


def let_children_change_registrations() -> None:
    """Let a forked child change the registrations of its parent's descriptors in the kernel."""
    leave = ReactorSelector._leave_parent

    def tell(self: ReactorSelector) -> None:
        self._start_over(self._check)
        leave(self)

    ReactorSelector._leave_parent = tell  # type: ignore[method-assign]


def _with_each_20th_charge(deed: Callable[[Pool], object]) -> None:
    count, charge = itertools.count(1), Account.charge

    def changed(self: Account, permits: int) -> None:
        charge(self, permits)
        if not next(count) % 20:
            deed(self.pool)

    Account.charge = changed  # type: ignore[method-assign]


def _spoil(change: Callable[[list[Message]], object]) -> None:
    count, received = itertools.count(1), Dispatcher.deliver

    def spoilt(self: Dispatcher[object], batch: list[Message]) -> None:
        if not next(count) % 100:
            change(batch)
        if batch:
            received(self, batch)

    Dispatcher.deliver = spoilt  # type: ignore[method-assign]


def _with_each_tenth(deed: Callable[[Connection], object]) -> None:
    count, made = itertools.count(1), Connection.connection_made

    def changed(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        if not next(count) % 10:
            deed(self)

    Connection.connection_made = changed  # type: ignore[method-assign]


WAYS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "permit": lose_a_permit,
    "permit-twice": give_a_permit_twice,
    "message": lose_a_message,
    "order": swap_messages,
    "descriptor": keep_a_descriptor,
    "task": keep_a_task,
    "memory": keep_memory,
    "log": log_a_warning,
    "number": keep_a_number,
    "reading": never_resume_reading,
    "fork": let_children_change_registrations,
}


def commit(way: str) -> None:
    """Break the library in this process."""
    WAYS[way]()

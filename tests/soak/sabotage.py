"""Ways to break the library, to see that a soak tells: ``nox -s soak -- --sabotage permit``."""

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
from tofu_aio.reactor import ReactorSelector

_left: list[object] = []


def lose_a_permit() -> None:
    """Each 200th is not given back."""
    count, release = itertools.count(1), Account.release

    def forgetful(self: Account) -> None:
        if next(count) % 200:
            release(self)

    Account.release = forgetful  # type: ignore[method-assign]


def give_a_permit_twice() -> None:
    """Each 200th is given back twice."""
    count, release = itertools.count(1), Account.release

    def generous(self: Account) -> None:
        if not next(count) % 200:
            self.pool.free.append(None)
        release(self)

    Account.release = generous  # type: ignore[method-assign]


def lose_a_message() -> None:
    """The last of each 100th batch."""
    _spoil(lambda batch: batch[-1:] and batch.pop().release())


def swap_messages() -> None:
    """Each 100th batch the other way round."""
    _spoil(list.reverse)


def keep_a_descriptor() -> None:
    """Of each tenth connection."""
    _with_each_tenth(
        lambda connection: _left.append(
            socket.dup(connection.queue.extra_info("socket").fileno())  # type: ignore[attr-defined]
        )
    )


def keep_a_task() -> None:
    """For each tenth connection."""
    _with_each_tenth(lambda _: _left.append(asyncio.ensure_future(asyncio.Event().wait())))


def keep_memory() -> None:
    """For each tenth connection a megabyte and 500 objects."""
    _with_each_tenth(lambda _: _left.append((bytes(1 << 20), [[i] for i in range(500)])))


def complain() -> None:
    """A warning for each tenth connection."""
    _with_each_tenth(lambda _: logging.getLogger("tofu_aio").warning("it is dark in here"))


def keep_a_number() -> None:
    """Each tenth channel is not forgotten."""
    count, closed = itertools.count(1), Dispatcher.closed

    def unforgetting(self: Dispatcher[object]) -> None:
        if next(count) % 10:
            closed(self)

    Dispatcher.closed = unforgetting  # type: ignore[method-assign]


def read_no_more() -> None:
    """Each 20th time that a channel may read again, it is not told."""
    count, reconcile = itertools.count(1), Connection.reconcile_reading

    def deaf(self: Connection) -> None:
        if self.decoder.starved or next(count) % 20:
            reconcile(self)

    Connection.reconcile_reading = deaf  # type: ignore[method-assign]


def let_children_tell_the_parent() -> None:
    """What a forked child remembers of the reactor's descriptors is told to its parent's kernel."""
    leave = ReactorSelector._leave_parent

    def tell(self: ReactorSelector) -> None:
        self._register_all_again(self._check_known)
        leave(self)

    ReactorSelector._leave_parent = tell  # type: ignore[method-assign]


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
    "log": complain,
    "number": keep_a_number,
    "reading": read_no_more,
    "fork": let_children_tell_the_parent,
}


def commit(way: str) -> None:
    """Break the library in this process."""
    WAYS[way]()

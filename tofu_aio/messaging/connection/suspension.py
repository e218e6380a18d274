"""The entry of a connection that waits for permits, for the queue of the pool."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ...protocol.account import Account
from ...protocol.decoder import Decoder
from ..flow_control.read_gate import ReadGate
from .sink import Lender


class Suspended(Protocol):
    """The connection that waits."""

    decoder: Decoder
    gate: ReadGate
    loop: asyncio.AbstractEventLoop

    @property
    def sink(self) -> Lender:
        """The sink of its messages."""

    @property
    def number(self) -> int:
        """Its local number."""

    def resume(self, granted: int) -> None:
        """Go on decoding."""

    def reconcile_reading(self) -> None:
        """Start or stop reading, as the connection's state requires."""


class Suspension:
    """Made when a connection first waits for a permit; most never do. Implements ``Reader``.

    Args:
        connection: the connection that waits.

    Attributes:
        suspended_at: when it began to wait, in the loop's time; None while it does not wait.
        suspended_for: seconds of its earlier waits, all together.
        suspensions: how often it has begun to wait.
    """

    __slots__ = ("_connection", "suspended_at", "suspended_for", "suspensions")

    def __init__(self, connection: Suspended) -> None:
        self._connection = connection
        self.suspended_at: float | None = None
        self.suspended_for = 0.0
        self.suspensions = 0

    @property
    def account(self) -> Account:
        """The account of what the connection's messages hold."""
        account = self._connection.decoder.account
        assert account is not None  # it waits for permits, so they are counted
        return account

    @property
    def number(self) -> int:
        """The local number of the channel."""
        return self._connection.number

    @property
    def needs(self) -> int:
        """How many permits it waits for; 0 if it does not wait."""
        return self._connection.decoder.needs

    @property
    def over_its_share(self) -> bool:
        """Whether it waits until its own messages are released, not those of others."""
        return self.account.over_share(self.needs)

    @property
    def seconds(self) -> float:
        """The seconds for which it has waited in all, up to now."""
        if self.suspended_at is None:
            return self.suspended_for
        return self.suspended_for + self._connection.loop.time() - self.suspended_at

    def may_go_on(self) -> bool:
        """Whether it needs no permit of the pool: its reserve is free, or nothing is needed.

        The reserve is freed if the application waits for the next message.
        """
        account = self.account
        if account.reserved:
            account.lend(self._connection.sink.waits)
        return not account.reserved or self._connection.decoder.needs_none

    def begin(self) -> None:
        """Wait for permits from now on."""
        self.account.lend(self._connection.sink.waits)
        self._connection.gate.starve(self)

    def lend(self) -> None:
        """A task begins to wait for a message: let one come, whatever the application keeps."""
        # Lent now, because the task may have been cancelled by the end of the turn.
        if self.suspended_at is not None and self.may_go_on():
            self._connection.gate.retry(self)

    def resume(self, granted: int) -> None:
        """Go on with permits that were granted, or with the reserve."""
        self._connection.resume(granted)

    def reconcile_reading(self) -> None:
        """Start or stop reading, as the connection's state requires."""
        self._connection.reconcile_reading()

"""The last messages of a channel that is to receive no more, while they wait for permits."""

from __future__ import annotations

from collections.abc import Callable

from ...protocol.errors import TofuError
from ...protocol.message import Message
from ..connection.connection import Connection
from ..connection.sink import Sink
from .wake_up import WakeUps


class LastMessages:
    """Stands in for a connection's sink until all that has arrived was delivered to that.

    Args:
        connection: not idle: messages that have arrived wait for permits, or for the next portion.
        sink: the connection's sink, which this replaces at once.
        delivered: called when the last of these messages was delivered, and the sink is back.
    """

    def __init__(self, connection: Connection, sink: Sink, delivered: Callable[[], None]) -> None:
        self._connection = connection
        self._sink = sink
        self._delivered = delivered
        connection.sink = self

    @property
    def waits(self) -> int:
        """As the sink says."""
        return self._sink.waits

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Pass messages on. When none of those that have arrived is left, stop doing so."""
        self._sink.deliver(batch, wake_ups)
        if self._connection.idle and self._connection.sink is self:
            self._connection.sink = self._sink
            self._delivered()

    def accepted(self) -> None:
        """Pass it on."""
        self._sink.accepted()

    def suspended(self) -> None:
        """Pass it on."""
        self._sink.suspended()

    def ended(self, error: TofuError) -> None:
        """Pass it on."""
        self._sink.ended(error)

    def lost(self) -> None:
        """Pass it on."""
        self._sink.lost()

    def said(self) -> None:
        """Pass it on."""
        self._sink.said()

    def closed(self) -> None:
        """Pass it on."""
        self._sink.closed()

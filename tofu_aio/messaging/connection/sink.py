"""The interface that a connection reports to."""

from __future__ import annotations

from typing import Protocol

from ...protocol.errors import TofuError
from ...protocol.message import Message
from ..delivery.wake_up import WakeUps


class Observer(Protocol):
    """Is notified of the end of a connection."""

    def ended(self, error: TofuError) -> None:
        """Nothing more is received, for this reason. Called once, after all messages."""

    def closed(self) -> None:
        """The socket is closed as well. Called once, last of all."""


class Lender(Protocol):
    """Knows whether a task waits for a message."""

    @property
    def waits(self) -> int:
        """How many messages the application may keep while a task waits; 0 if none waits."""


class Sink(Observer, Lender, Protocol):
    """Takes the messages of a connection."""

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Take messages, in order, at least one. Adds the wake-ups of tasks to ``wake_ups``."""

    def accepted(self) -> None:
        """This side has answered the peer's Hello: the channel is open."""

    def suspended(self) -> None:
        """The connection waits for permits, and is not read from the end of this turn on."""

    def lost(self) -> None:
        """Nothing that is sent arrives any more. Earlier messages may still be received."""

    def said(self) -> None:
        """The end was reported before, and now the last frame has left as well."""

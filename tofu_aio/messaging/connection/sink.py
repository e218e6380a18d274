"""What a connection reports to."""

from __future__ import annotations

from typing import Protocol

from ...protocol.errors import TofuError
from ...protocol.message import Message
from ..delivery.wake_up import WakeUps


class Observer(Protocol):
    """What is told of the end of a connection."""

    def ended(self, error: TofuError) -> None:
        """Nothing more is received, for this reason. Called once, after all messages."""

    def closed(self) -> None:
        """The socket is gone as well. Called once, last of all."""


class Lender(Protocol):
    """What knows whether somebody waits for a message."""

    @property
    def waits(self) -> int:
        """How many messages the application may keep while it waits for the next one; 0 if not."""


class Sink(Observer, Lender, Protocol):
    """What takes the messages of a connection."""

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Take messages, in order; never none. Tasks that wait for them go into ``wake_ups``."""

    def accepted(self) -> None:
        """The peer's Hello was answered from here: the channel is open."""

    def suspended(self) -> None:
        """The connection is not read for want of permits, since the end of this turn."""

    def lost(self) -> None:
        """Nothing that is sent arrives any more, though earlier messages may still be received."""

    def said(self) -> None:
        """The end was reported before, and now the last frame has left as well."""

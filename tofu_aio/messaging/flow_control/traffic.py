"""What connections have received and sent; added up on demand."""

from __future__ import annotations

from dataclasses import dataclass

from ..connection.connection import Connection


@dataclass(frozen=True, slots=True)
class Traffic:
    """What some connections have received and sent.

    Received bytes are not here: the engine counts them itself, whichever channel they are for.

    Attributes:
        received: messages that have arrived.
        sent: messages that were accepted for sending.
        sent_bytes: bytes of them that were given to the system, or to TLS.
    """

    received: int = 0
    sent: int = 0
    sent_bytes: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.received + other.received,
            self.sent + other.sent,
            self.sent_bytes + other.sent_bytes,
        )


def of_connection(connection: Connection) -> Traffic:
    """What a connection has received and sent so far."""
    queue = connection.queue
    return Traffic(connection.received, queue.sent, queue.given)

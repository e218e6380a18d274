"""What the engine itself holds of the pool's permits, and its bytes; added up on demand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...protocol.binary_header import HEADER_SIZE
from ...protocol.message import Message
from ...protocol.pool import Permit, Pool
from ..connection.connection import Connection


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """What the engine itself holds. All other permits that are out belong to the application.

    Attributes:
        inbox: permits of messages that were not received yet, or that have arrived in part.
        outgoing: permits of received messages that wait to be sent on.
        nbytes: bytes of all messages that wait to be received or sent, whole or in part.
    """

    inbox: int = 0
    outgoing: int = 0
    nbytes: int = 0

    def __add__(self, other: PoolUsage) -> PoolUsage:
        return PoolUsage(
            self.inbox + other.inbox, self.outgoing + other.outgoing, self.nbytes + other.nbytes
        )


def of_messages(messages: Iterable[Message], pool: Pool) -> PoolUsage:
    """What messages that were not received yet hold of a pool."""
    permits = nbytes = 0
    for message in messages:
        permits += _worth(message._permit, pool)
        nbytes += HEADER_SIZE + len(message.headers.encode()) + len(message.body)
    return PoolUsage(inbox=permits, nbytes=nbytes)


def of_connection(connection: Connection, pool: Pool) -> PoolUsage:
    """What a connection holds: messages in part, or waiting for permits, and frames to be sent."""
    return PoolUsage(
        inbox=connection.decoder.promised,
        outgoing=sum(_worth(permit, pool) for permit in connection.queue.carried),
        nbytes=connection.decoder.held + connection.queue.nbytes,
    )


def _worth(permit: Permit | None, pool: Pool) -> int:
    """How much a permit counts. A message may come from another engine, and so another pool."""
    return permit.worth if permit is not None and permit.pool is pool else 0

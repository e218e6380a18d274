"""Who holds the pool's permits and the engine's bytes, added up when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...protocol.binary_header import HEADER_SIZE
from ...protocol.message import Message
from ...protocol.pool import Permit, Pool
from ..connection.connection import Connection


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """What the engine itself has in hand: all other permits are with the application.

    Attributes:
        inbox: permits of messages that nobody has received yet, or that have arrived in part.
        outgoing: permits of received messages that wait to be sent on.
        nbytes: of all messages that wait to be received or sent, whole or in part.
    """

    inbox: int = 0
    outgoing: int = 0
    nbytes: int = 0

    def __add__(self, other: PoolUsage) -> PoolUsage:
        return PoolUsage(
            self.inbox + other.inbox, self.outgoing + other.outgoing, self.nbytes + other.nbytes
        )


def of_messages(messages: Iterable[Message], pool: Pool) -> PoolUsage:
    """What messages hold of a pool that nobody has received yet."""
    permits = nbytes = 0
    for message in messages:
        permits += _worth(message._permit, pool)
        nbytes += HEADER_SIZE + len(message.headers.encode()) + len(message.body)
    return PoolUsage(inbox=permits, nbytes=nbytes)


def of_connection(connection: Connection, pool: Pool) -> PoolUsage:
    """What a connection holds: what came in part, or waits for permits, and what is to be sent."""
    return PoolUsage(
        inbox=connection.decoder.promised,
        outgoing=sum(_worth(permit, pool) for permit in connection.queue.carried),
        nbytes=connection.decoder.held + connection.queue.nbytes,
    )


def _worth(permit: Permit | None, pool: Pool) -> int:
    """Messages may be received by one engine and sent by another."""
    return permit.worth if permit is not None and permit.pool is pool else 0

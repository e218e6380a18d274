"""Closing silent channels to make room for waiting connections."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable

from ...protocol.errors import ChannelClosed
from ..connection.connection import Connection
from ..connection.heartbeat import silence

logger = logging.getLogger("tofu_aio.listener")


def evict_silent(connections: Iterable[Connection], most: int) -> list[Connection]:
    """Close the channels whose peers have been silent longest, with a Bye; return them.

    A channel qualifies if its peer has neither sent nor received anything for as long as a peer
    with heartbeats may be silent, because it may not exist any more. Peers that answer heartbeats
    do not qualify, unless this side has suspended reading while it waits for them to receive data.

    Args:
        connections: to choose from.
        most: how many to close at most.
    """
    silent = ((silence(connection), connection) for connection in connections)
    longest = heapq.nlargest(most, (pair for pair in silent if pair[0]), key=lambda pair: pair[0])
    for seconds, connection in longest:
        error = ChannelClosed(
            f"the peer was silent for {seconds:g} s: it neither sent nor received anything, and "
            "other connections wait for its slot"
        )
        logger.info("channel %d is evicted: %s", connection.number, error)
        connection.closing.dismiss(error)
    return [connection for _, connection in longest]

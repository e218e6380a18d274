"""Which of the open channels makes room for who waits."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable

from ...protocol.errors import ChannelClosed
from ..connection.connection import Connection
from ..connection.heartbeat import silence

logger = logging.getLogger("tofu_aio.listener")


def evict_silent(connections: Iterable[Connection], most: int) -> list[Connection]:
    """Close, with a Bye each, the channels whose peers have been silent longest; return which.

    Only those whose peers have neither sent nor taken anything for as long as one that takes part
    in heartbeats may be silent: nobody knows of such a peer whether it is still there. One that
    takes part is not among them, unless this side waits for it to take something and cannot read.

    Args:
        connections: among which.
        most: how many.
    """
    silent = ((silence(connection), connection) for connection in connections)
    longest = heapq.nlargest(most, (pair for pair in silent if pair[0]), key=lambda pair: pair[0])
    for seconds, connection in longest:
        error = ChannelClosed(
            f"the peer was silent for {seconds:g} s: it neither sent nor took anything, and others "
            "wait for its place"
        )
        logger.info("channel %d gives way: %s", connection.number, error)
        connection.closing.dismiss(error)
    return [connection for _, connection in longest]

"""The handshake: notes what the Hellos of both sides agree upon, and starts heartbeats."""

from __future__ import annotations

from typing import Protocol

from ...protocol.lifecycle import SEND
from ...protocol.op_code import OpCode
from ..flow_control.read_gate import ReadGate
from .agreements import Extension, agreed, agreed_interval
from .heartbeat import Beating


class Introduced(Beating, Protocol):
    """A connection that sends and receives Hellos."""

    gate: ReadGate
    peer_supports: Extension

    def reconcile_reading(self) -> None:
        """Start or stop reading, as the connection's state requires."""


def note_hello(connection: Introduced, headers: bytes, *, answer: bool, by_peer: bool) -> None:
    """Note what a Hello agrees upon. If it is the answer, start what was agreed.

    Args:
        connection: the connection of the Hello.
        headers: encoded.
        answer: whether it answers the other side's Hello.
        by_peer: whether the peer has sent it.
    """
    interval, supports = agreed(headers, answer=answer)
    decoder = connection.decoder
    if by_peer:
        connection.peer_supports = supports
    earlier = decoder.heartbeats is not None  # the other side's Hello has asked for heartbeats
    asked = connection.heartbeat
    connection.heartbeat = agreed_interval(asked, interval) if answer else interval
    if interval is not None:
        # The peer may send heartbeats from now on. If it has asked for them, it takes part.
        decoder.heartbeats = bool(decoder.heartbeats) or by_peer
    if answer and connection.heartbeat is not None and connection.end is None:
        connection.gate.heartbeats.join(connection, connection.heartbeat)
        we_asked = earlier if by_peer else interval is not None
        if decoder.heartbeats and not we_asked and OpCode.SIGNAL in SEND[decoder.state]:
            connection.queue.send_heartbeat()  # only this shows the peer that this side takes part
    if by_peer and decoder.early:
        connection.reconcile_reading()  # as much as may wait before the decision may have arrived

"""Heartbeats: a silent peer is told from a lost one, whether or not anyone is receiving."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from ..protocol.errors import PeerDisconnected
from ..protocol.lifecycle import RECEIVE, SEND
from ..protocol.op_code import OpCode
from ..protocol.text_headers import HEARTBEAT
from .checks import checked_seconds
from .limits import HEARTBEAT_MAX, HEARTBEAT_MIN, HEARTBEATS_MISSED

if TYPE_CHECKING:
    from .connection import Connection

_TICKS: Final = 2
"""How often in each interval the channel is looked at."""

# Read from the encoded form: to take the headers of every Hello apart would let strangers choose
# how much memory that costs. Possessive throughout, so that each byte is looked at once. A line
# begins after CR LF: a value may have an LF, or a CR, in it.
_ASKED: Final = re.compile(
    rb"(?:^|\r\n)[ \t]*+%s[ \t]*+:[ \t]*+([0-9]{1,9})[ \t]*+\r\n" % HEARTBEAT.encode()
)


def heartbeat_header(seconds: float | None) -> dict[str, str]:
    """The header of a Hello that asks for heartbeats; none if none are wanted.

    Raises:
        TypeError, ValueError: as ``checked_seconds``: it is not 0.01 to 86,400 seconds.
    """
    if seconds is None:
        return {}
    checked_seconds("heartbeat", seconds, HEARTBEAT_MIN, HEARTBEAT_MAX)
    return {HEARTBEAT: str(round(seconds * 1000))}


def interval_asked(headers: bytes) -> float | None:
    """The interval, in seconds, that a Hello asks for; None if none, or one that cannot be."""
    asked = _ASKED.search(headers)
    seconds = int(asked[1]) / 1000 if asked is not None else 0.0
    return seconds if HEARTBEAT_MIN <= seconds <= HEARTBEAT_MAX else None


class Heartbeat:
    """One end's heartbeats on one channel, and its ear for the other's.

    Either Hello may ask for them. Who asks does not know yet whether the peer understands, and
    waits; who is asked begins, with a heartbeat, and that is the answer. A plain tofu peer does
    neither and is never sent any.

    What travels anyway is as good as a heartbeat: one is sent only where nothing else was for an
    interval, and any byte that arrives is a sign of life. All of that is compared once a tick, so
    a message costs nothing more. Silence is counted in ticks, not in seconds: a loop that was held
    up ticks late, and must not take its own sleep for the peer's.

    Args:
        connection: the channel's.
    """

    __slots__ = (
        "_arrived",
        "_connection",
        "_interval",
        "_loop",
        "_quiet",
        "_sent",
        "_silent",
        "_takes_part",
        "_timer",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._interval = HEARTBEAT_MAX  # the shortest that was asked for, in seconds
        self._takes_part = False  # the peer does
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0  # messages, at the last tick
        self._quiet = 0  # ticks since the last one may have been sent
        self._arrived = 0  # bytes, at the last tick
        self._silent = 0  # ticks since some arrived, or could not
        connection.decoder.on_heartbeat = self._heard

    def asked(self, interval: float, *, by_peer: bool) -> None:
        """A Hello asks for them."""
        self._interval = min(self._interval, interval)
        self._takes_part |= by_peer
        if self._timer is not None:  # its first heartbeat was decoded together with its Hello
            self._timer.cancel()
            self._next_tick()

    def begin(self) -> None:
        """Send and expect heartbeats, if the peer takes part and the channel is that far."""
        if self._takes_part and self._timer is None and self._connection.end is None:
            state = self._connection.decoder.state
            if OpCode.SIGNAL in SEND[state]:
                self._connection.beat()
                self._next_tick()

    def stop(self) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _heard(self) -> None:
        self._takes_part = True
        self.begin()

    def _next_tick(self) -> None:
        self._timer = self._loop.call_later(self._interval / _TICKS, self._tick)

    def _tick(self) -> None:
        connection = self._connection
        state = connection.decoder.state
        sends = OpCode.SIGNAL in SEND[state]
        hears = OpCode.SIGNAL in RECEIVE[state]
        if connection.end is not None or not (sends or hears):
            return
        if sends:
            self._beat_if_quiet()
        if hears and self._is_lost():
            silence = self._silent * self._interval / _TICKS
            connection.lose(
                PeerDisconnected(
                    f"nothing came from the peer for {silence:g} s, and a heartbeat was due every "
                    f"{self._interval:g} s"
                )
            )
        else:
            self._next_tick()

    def _beat_if_quiet(self) -> None:
        connection = self._connection
        if connection.sent != self._sent:
            self._sent = connection.sent
            self._quiet = 1  # for all we know it was just after the last tick
            return
        self._quiet += 1
        # What still waits to be sent says as much, and another would only wait behind it.
        if self._quiet >= _TICKS and not connection.queued_bytes:
            connection.beat()
            self._quiet = 0

    def _is_lost(self) -> bool:
        decoder = self._connection.decoder
        arrived = decoder.offset + decoder.held
        self._silent = self._silent + 1 if arrived == self._arrived else 0
        # Not read for want of a permit: the silence is ours, and begins anew when that is over.
        self._arrived = -1 if decoder.starved else arrived
        return self._silent >= HEARTBEATS_MISSED * _TICKS

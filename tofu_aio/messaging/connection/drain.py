"""The announcement that a channel will be closed, by either side, and those who wait for it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ...protocol.decoder import Decoder
from ...protocol.errors import TofuError
from ...protocol.lifecycle import SEND
from ...protocol.op_code import OpCode
from .agreements import Extension
from .send_queue import SendQueue


class Drained(Protocol):
    """The connection that will be closed."""

    decoder: Decoder
    end: TofuError | None
    loop: asyncio.AbstractEventLoop
    peer_supports: Extension
    queue: SendQueue


class Drain:
    """Whether one side has announced that it will close the channel, and who waits for that.

    Args:
        connection: the channel's.

    Attributes:
        announced: whether either side has announced it.
    """

    __slots__ = ("_connection", "_over", "_told", "announced")

    def __init__(self, connection: Drained) -> None:
        self._connection = connection
        self._told = False  # the peer was sent the notice
        self._over: asyncio.Future[None] | None = None  # made for the first task that waits
        self.announced = False

    def announce(self) -> None:
        """Announce it on this side, and to the peer if that understands it and may be sent it."""
        connection = self._connection
        tells = (
            not self._told
            and connection.end is None
            and Extension.DRAIN in connection.peer_supports
            and OpCode.SIGNAL in SEND[connection.decoder.state]
        )
        if tells:
            self._told = True
            connection.queue.send_drain_notice()
        self.note()

    def note(self) -> None:
        """Note that one side has announced it."""
        self.announced = True
        self.end_waits()

    def end_waits(self) -> None:
        """Let all tasks go on that wait: it was announced, or the channel has ended."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def wait(self) -> None:
        """Wait until it is announced, or the channel has ended. For any number of tasks."""
        if self.announced or self._connection.end is not None:
            return
        if self._over is None:
            self._over = self._connection.loop.create_future()
        await asyncio.wait([self._over])  # unlike awaiting it, cancelling this leaves it alone

"""The last act of a connection whose last word must be heard."""

from __future__ import annotations

import asyncio
import contextlib

from .stream_protocol import StreamProtocol


class LingeringClose(asyncio.Protocol):
    """Says that nothing more is sent, then reads, and drops, until the peer closes as well.

    Closing a socket whose peer has sent something unread makes a reset of it, and a reset takes
    from the peer what it has not read yet (tcp(7)): a refusal, say. Whoever begins a farewell also
    bounds its time, by aborting the transport.

    Args:
        transport: it has been given the last word.
        mourner: the protocol so far; it is told when the connection is lost, and nothing else.
    """

    def __init__(self, transport: asyncio.Transport, mourner: StreamProtocol) -> None:
        self._mourner = mourner
        transport.set_protocol(self)
        with contextlib.suppress(OSError, RuntimeError):  # the peer was faster
            transport.write_eof()
        transport.resume_reading()

    def eof_received(self) -> bool:
        """The peer has heard it all: the transport closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._mourner.connection_lost(exc)

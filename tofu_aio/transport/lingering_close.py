"""A lingering close: the peer receives what was sent last before the connection closes."""

from __future__ import annotations

import asyncio
import contextlib

from .stream_protocol import StreamProtocol


class LingeringClose(asyncio.Protocol):
    """Half-closes a connection, then reads and discards data until the peer closes as well.

    Closing a socket that has unread data resets the connection, and the reset discards what the
    peer has not read yet (tcp(7)), for example the reason of a refusal. Whoever starts a lingering
    close also limits its duration, by aborting the transport.

    Args:
        transport: its last data has been written already.
        protocol: the transport's protocol until now. Of its methods only ``connection_lost`` is
            called from here on.
    """

    def __init__(self, transport: asyncio.Transport, protocol: StreamProtocol) -> None:
        self._protocol = protocol
        transport.set_protocol(self)
        with contextlib.suppress(OSError, RuntimeError):  # the connection was lost already
            transport.write_eof()
        transport.resume_reading()

    def eof_received(self) -> bool:
        """Let the transport close: the peer has received everything."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the previous protocol."""
        self._protocol.connection_lost(exc)

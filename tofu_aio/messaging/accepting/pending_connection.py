"""A connection that was accepted and does not have a channel yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from ...protocol.address import Address
from ...transport.stream_protocol import StreamProtocol
from ..limits import EARLY_BYTES
from .connection_counts import CountedConnection


class Observer(Protocol):
    """What is notified about pending connections."""

    def connected(self, pending: PendingConnection) -> None:
        """The connection is ready to be read."""

    def bytes_received(self, pending: PendingConnection) -> None:
        """More of its first bytes have arrived."""

    def remove(self, pending: PendingConnection) -> None:
        """The connection was lost, or its peer sends no more data."""


class PendingConnection(asyncio.BufferedProtocol):
    """An accepted connection that waits for a slot.

    It is read, because otherwise nothing would notice that the peer disconnects. But only a few
    bytes are read, into a buffer of this class; the rest stays in the kernel. (Windows' proactor
    loop has already read 64 KiB by then.)

    Args:
        admission: notified about the connection.
        counted: the connection in the counts of its address. It is released here, unless a
            channel's connection takes over.
        address: of the peer. Later the system may not know it any more.
        taken_over: called when a channel's connection takes over. It is not called for a connection
            that is dropped: the loop closes its socket one turn later, and a child forked in
            between has a copy.

    Attributes:
        address: as given.
        early: the bytes received so far, until a channel's connection takes over.
        counted: as given.
    """

    def __init__(
        self,
        admission: Observer,
        counted: CountedConnection,
        address: Address | None,
        taken_over: Callable[[], object],
    ) -> None:
        self._admission = admission
        self.counted = counted
        self.address = address
        self._taken_over = taken_over
        self._buffer = bytearray()
        self.early = b""
        self._successor: StreamProtocol | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait."""
        self.transport = cast("asyncio.Transport", transport)
        self._admission.connected(self)

    def get_buffer(self, _: int) -> bytearray:
        """Return a small buffer. It is made when data arrives: a silent connection has none."""
        room = EARLY_BYTES - len(self.early)
        # Windows' proactor loop passes on all the 64 KiB that it has read, even when paused.
        self._buffer = bytearray(room if room > 0 else EARLY_BYTES)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep the data, and notify the admission."""
        data = bytes(memoryview(self._buffer)[:nbytes])
        self._buffer = bytearray()
        if self._successor is not None:
            # Windows' proactor loop passes on the rest of a chunk that it read before.
            self._successor.data_received(data)
            return
        self.early += data
        if len(self.early) >= EARLY_BYTES:
            self.transport.pause_reading()
        self._admission.bytes_received(self)

    def eof_received(self) -> bool:
        """Close the connection: a peer that sends no more data cannot become a channel."""
        self._admission.remove(self)
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Stop waiting."""
        self._admission.remove(self)
        self.counted.release()

    def become(self, protocol: StreamProtocol) -> None:
        """Hand the transport, and the bytes received so far, to a channel's connection."""
        self._successor = protocol
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        self._taken_over()  # the connection has its transport now
        if not self.transport.is_reading():
            self.transport.resume_reading()
        early, self.early = self.early, b""
        protocol.data_received(early)

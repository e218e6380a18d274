"""A connection that was accepted and has no channel yet."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Protocol, cast

from ...protocol.address import Address
from ...transport import stand_ins
from ...transport.stream_protocol import StreamProtocol
from ...transport.windows import set_nodelay
from ..limits import EARLY_BYTES
from .connection_counts import CountedConnection


class Observer(Protocol):
    """What is told of pending connections."""

    def arrived(self, caller: PendingConnection) -> None:
        """It is connected."""

    def spoke(self, caller: PendingConnection) -> None:
        """More of its first bytes are here."""

    def gone(self, caller: PendingConnection) -> None:
        """Its peer has left."""


class PendingConnection(asyncio.BufferedProtocol):
    """A connection before it has a place.

    It is read, for else nobody would notice that the peer has left; but no more than a little,
    which a buffer of our own sees to: the rest stays in the kernel. (Windows' proactor loop has
    read 64 KiB by then.)

    Args:
        admission: told what comes of it.
        counted: as which it is counted; ended here unless the connection goes on as a channel's.
        address: of its socket, as accept(2) has told. Later the system may not know it any more.
        sock: among those that are connecting until it goes on as a channel's. Who is dropped is
            known to nobody here, and closed a turn later: a child forked in between has a copy.

    Attributes:
        address: as given.
        early: what it has said so far, until it goes on as a channel's connection.
        counted: as given.
    """

    def __init__(
        self,
        admission: Observer,
        counted: CountedConnection,
        address: Address | None,
        sock: socket.socket,
    ) -> None:
        self._admission = admission
        self.counted = counted
        self.address = address
        self._sock = sock
        self._buffer = bytearray()
        self.early = b""
        self._successor: StreamProtocol | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait."""
        self.transport = cast("asyncio.Transport", transport)
        if sys.platform == "win32":
            set_nodelay(transport)
        self._admission.arrived(self)

    def get_buffer(self, _: int) -> bytearray:
        """Room for a little, made when something comes: who is silent has none."""
        room = EARLY_BYTES - len(self.early)
        # Windows' proactor loop deals out all the 64 KiB that it has read, whatever it is told.
        self._buffer = bytearray(room if room > 0 else EARLY_BYTES)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep it, and tell."""
        data = bytes(memoryview(self._buffer)[:nbytes])
        self._buffer = bytearray()
        if self._successor is not None:
            # Windows' proactor loop deals a chunk out that it has read before.
            self._successor.data_received(data)
            return
        self.early += data
        if len(self.early) >= EARLY_BYTES:
            self.transport.pause_reading()
        self._admission.spoke(self)

    def eof_received(self) -> bool:
        """It does not wait for an answer: close."""
        self._admission.gone(self)
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Wait no more."""
        self._admission.gone(self)
        self.counted.release()

    def become(self, protocol: StreamProtocol) -> None:
        """Go on as a channel's connection."""
        self._successor = protocol
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        stand_ins.connecting.discard(self._sock)  # the connection knows its transport
        if not self.transport.is_reading():
            self.transport.resume_reading()
        early, self.early = self.early, b""
        protocol.data_received(early)

"""The receiving half of a channel over NATS: what has arrived and was not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from .credit import Window


class Receiver:
    """Bytes on their way to the protocol.

    Args:
        window: the credit of the peer.

    Attributes:
        protocol: that of the transport.
        reading: whether the protocol takes bytes now.
        window: as given.
    """

    __slots__ = ("_chunks", "_delivering", "_ended", "protocol", "reading", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.protocol: asyncio.BaseProtocol = asyncio.Protocol()  # until there is one
        self.reading = False
        self._chunks: deque[bytes | memoryview] = deque()
        self._ended = False  # the peer has sent its last byte
        self._delivering = False

    def add(self, data: bytes) -> None:
        """Keep a chunk."""
        self._chunks.append(data)

    def end(self) -> None:
        """Note that nothing more comes."""
        self._ended = True

    def clear(self) -> None:
        """Drop everything that has arrived."""
        self._chunks.clear()
        self._ended = False

    def deliver(self) -> bool:
        """Give the protocol what has arrived, as long as it reads.

        Returns whether this was all, and the end of the stream is next.
        """
        if self._delivering:
            return False  # the call that is in progress goes on
        self._delivering = True
        try:
            while self.reading and self._chunks:
                self._deliver_some()
        finally:
            self._delivering = False
        if self.reading and self._ended and not self._chunks:
            self._ended = False
            return True
        return False

    def _deliver_some(self) -> None:
        """Give the protocol one chunk, or as much of it as its buffer takes."""
        chunk, protocol = self._chunks.popleft(), self.protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = memoryview(cast("bytearray", protocol.get_buffer(len(chunk))))
            size = min(len(buffer), len(chunk))
            buffer[:size] = chunk[:size]
            if size < len(chunk):
                self._chunks.appendleft(memoryview(chunk)[size:])
            self.window.read(size, chunk=size == len(chunk))
            protocol.buffer_updated(size)
        else:
            self.window.read(len(chunk), chunk=True)
            cast("asyncio.Protocol", protocol).data_received(bytes(chunk))

    def read_rest(self) -> bytes:
        """Return the next chunk that was not delivered; b"" at the end.

        For a protocol whose transport was lost.
        """
        return bytes(self._chunks.popleft()) if self._chunks else b""

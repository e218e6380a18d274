"""What sits on a transport: a connection, or TLS with a connection on it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod


class StreamProtocol(asyncio.BaseProtocol):
    """A protocol that takes bytes, whether its transport reads into a buffer of its own or not.

    So it can sit on TLS, be given what was read before it had its place, and still be one of
    asyncio's buffered protocols towards a socket. (It is none of ``asyncio.Protocol``, for uvloop
    would not use its buffer then.)
    """

    __slots__ = ()

    @abstractmethod
    def data_received(self, data: bytes | memoryview) -> None:
        """Some bytes have come. Of a view nothing may be kept."""

    @abstractmethod
    def eof_received(self) -> bool:
        """No more will come. Whether the transport stays, for what is still to be sent."""

    def count_answer(self, nbytes: int) -> None:
        """TLS has answered the peer by itself, and what is to be sent is above its high water.

        Ignored unless a protocol counts such answers. A peer that asks for many, and takes none,
        must not be read.

        Args:
            nbytes: of the answer.
        """

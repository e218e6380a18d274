"""The protocol above a transport: a connection, or TLS with a connection above it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod


class StreamProtocol(asyncio.BaseProtocol):
    """A protocol that accepts data as bytes, even if it is a buffered protocol as well.

    So it works above TLS, can be given data that was read before it became the transport's
    protocol, and can still be an ``asyncio.BufferedProtocol`` directly above a socket. (It is not
    derived from ``asyncio.Protocol``, because uvloop would not use its buffer then.)
    """

    __slots__ = ()

    @abstractmethod
    def data_received(self, data: bytes | memoryview) -> None:
        """Receive data. A memoryview is valid only during the call."""

    @abstractmethod
    def eof_received(self) -> bool:
        """The peer sends no more data. Return whether the transport stays open for sending."""

    def count_answer(self, nbytes: int) -> None:
        """TLS itself has sent an answer while the write buffer is above its high-water mark.

        By default this does nothing. A protocol may count these bytes, to suspend reading from a
        peer that requests many answers and reads none of them.

        Args:
            nbytes: the size of the answer.
        """

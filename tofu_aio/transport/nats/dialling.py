"""The socket to a broker, and the streams that nats-py reads and writes it with."""

# nats-py's own signatures have the type Any.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import cast

from nats.aio.client import DEFAULT_BUFFER_SIZE
from nats.aio.transport import TcpTransport as NatsTcpTransport

from ...protocol.address import TcpAddress
from ..happy_eyeballs import NoneConnected
from ..socket_module import socket_module
from ..socket_options import keepalive_options
from ..tcp import TcpTransport
from .limits import BROKER_TIMEOUT

if sys.platform == "linux":
    import fcntl
    import termios


class Streams(NatsTcpTransport):
    """What nats-py calls its transport, over a socket that is connected as those of channels are.

    So each address of the broker's host is tried, without waiting long for any of them, and until
    ``dialled`` returns, a forked child replaces the socket.

    Args:
        reader: of the connection.
        protocol: of the connection.

    Attributes:
        socket: of the connection; None in a simulated world.
    """

    def __init__(self, reader: asyncio.StreamReader, protocol: _Protocol) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        loop = asyncio.get_running_loop()
        writer = asyncio.StreamWriter(protocol.made, protocol, reader, loop)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer
        self._protocol = protocol
        self.socket: socket.socket | None = None
        if socket_module() is socket:
            self.socket = cast("socket.socket", writer.get_extra_info("socket"))

    def abort(self) -> None:
        """Close at once, and drop what was not sent. May be called again."""
        assert self._io_writer is not None
        if not self._protocol.lost:  # else asyncio may fail: its transport has no loop any more
            self._io_writer.transport.abort()

    def unsent(self) -> int:
        """How many bytes this program still has, and on Linux, the kernel as well."""
        assert self._io_writer is not None
        transport = self._io_writer.transport
        size = 0 if self._protocol.lost else transport.get_write_buffer_size()
        if sys.platform == "linux" and self.socket is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed
                found = fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4))
                size += int.from_bytes(found, sys.byteorder)
        return size


async def dialled(broker: TcpAddress) -> Streams:
    """Connect a socket to a broker.

    Raises:
        OSError: it cannot be connected to, or has not answered in time.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(DEFAULT_BUFFER_SIZE, loop)
    protocol = _Protocol(reader, loop=loop)
    async with asyncio.timeout(BROKER_TIMEOUT):
        await _Dialler(broker).connect(protocol, None)
    return Streams(reader, protocol)


class _Protocol(asyncio.StreamReaderProtocol):
    """asyncio's, which tells its transport, and whether that is gone."""

    made: asyncio.WriteTransport
    lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        super().connection_lost(exc)


class _Dialler(TcpTransport):
    """Connects with the errors of the system, for which there are texts about brokers."""

    async def dial(self, keepalive: float | None) -> socket.socket:
        try:
            return await self.dial_any(keepalive_options(keepalive))
        except NoneConnected as none:
            raise none.failures[-1][1] from None

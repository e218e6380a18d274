"""Accepting connections, and giving each a bounded time to introduce itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

from ..protocol.address import Address, UdsAddress
from ..protocol.errors import ChannelClosed, ProtocolViolation, TofuError
from ..protocol.status import Status
from . import sockets
from .connection import Connection
from .limits import LISTEN_BACKLOG, PENDING_CHANNELS

logger = logging.getLogger(__name__)


class Acceptor:
    """A listening socket and the connections that have not said Hello.

    Args:
        sock: listening; it belongs to the acceptor from now on.
        address: what was asked for.
        hello_timeout: seconds that a connection may take to introduce itself.
        admit: makes the connection of a new channel.

    Attributes:
        address: where it listens, with the port that the system chose.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        hello_timeout: float,
        admit: Callable[[], Connection],
    ) -> None:
        self.address = sockets.local_address(sock, address)
        self._sock = sock
        self._identity = sockets.file_identity(address)
        self._hello_timeout = hello_timeout
        self._admit = admit
        self._server: asyncio.Server | None = None
        self._strangers = 0  # connections that are read, but not taken by the application
        self._introducing: dict[Connection, asyncio.TimerHandle] = {}
        self._held: deque[Connection] = deque()  # strangers beyond those: not read

    async def start(self) -> None:
        """Accept from now on. The loop itself sees to a shortage of descriptors."""
        loop = asyncio.get_running_loop()
        uds = isinstance(self.address, UdsAddress)
        create = loop.create_unix_server if uds else loop.create_server
        try:
            # In two steps: cancelled in one, it would leave a server that nobody knows.
            self._server = await create(
                self._welcome, sock=self._sock, backlog=LISTEN_BACKLOG, start_serving=False
            )
            await self._server.start_serving()
        except BaseException:
            self.close()
            raise

    def introduced(self, connection: Connection) -> None:
        """The connection's Hello has arrived, or never will: its deadline is off."""
        deadline = self._introducing.pop(connection, None)
        if deadline is not None:
            deadline.cancel()

    def taken(self) -> None:
        """Somebody is a stranger no more, or gone: the next one may introduce himself."""
        self._strangers -= 1
        while self._held and self._strangers < PENDING_CHANNELS:
            connection = self._held.popleft()
            connection.held = False
            connection.reconcile_reading()
            self._host(connection)

    def close(self) -> None:
        """Stop listening, remove the socket's file, and drop who has not said Hello."""
        server, self._server = self._server, None
        if server is None:
            self._sock.close()
        else:
            server.close()
        sockets.remove_file(self.address, self._identity)
        self._identity = None
        held, self._held = self._held, deque()
        for connection in (*held, *self._introducing):
            connection.abort(ChannelClosed("the listener was closed"))

    def _welcome(self) -> asyncio.Protocol:
        if self._server is None:
            return _Refusal()  # it was under way when the listener closed
        try:
            connection = self._admit()
        except TofuError as error:
            logger.warning("%s: a connection was refused: %s", self.address, error)
            return _Refusal()
        if self._strangers < PENDING_CHANNELS:
            self._host(connection)
        else:
            connection.held = True
            self._held.append(connection)
        return connection

    def _host(self, connection: Connection) -> None:
        self._strangers += 1
        self._introducing[connection] = asyncio.get_running_loop().call_later(
            self._hello_timeout, self._too_late, connection
        )

    def _too_late(self, connection: Connection) -> None:
        text = f"no Hello came within {self._hello_timeout:g} s: is it a tofu peer?"
        connection.abort(ProtocolViolation(text, Status.INVALID_OP_CODE))


class _Refusal(asyncio.Protocol):
    """The whole life of a connection that cannot be taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()

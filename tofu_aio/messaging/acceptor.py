"""Accepting connections, and giving each a bounded time to introduce itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable
from typing import cast

from ..protocol.address import Address, UdsAddress
from ..protocol.errors import ChannelClosed, ProtocolViolation, TofuError
from ..protocol.status import Status
from . import sockets
from .attributes import Attributes, local_attributes
from .connection import Connection
from .limits import LISTEN_BACKLOG, PENDING_CHANNELS, WAITING_CONNECTIONS

logger = logging.getLogger(__name__)


class Acceptor:
    """A listening socket and the connections that have not said Hello.

    Args:
        sock: listening; it belongs to the acceptor from now on.
        address: what was asked for.
        hello_timeout: seconds that a connection may take to introduce itself.
        admit: makes the connection of a new channel.
        layer: puts TLS between a connection and its socket, if that is wanted.
        max_channels: how many of them may be open at once; None for any number.

    Attributes:
        address: where it listens, with the port that the system chose.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        hello_timeout: float,
        admit: Callable[[], Connection],
        *,
        layer: Callable[[asyncio.Protocol], asyncio.Protocol],
        max_channels: int | None = None,
    ) -> None:
        self.address = sockets.local_address(sock, address)
        self._sock = sock
        self._identity = sockets.file_identity(address)
        self._hello_timeout = hello_timeout
        self._admit = admit
        self._layer = layer
        self._server: asyncio.Server | None = None
        self._closed = False
        self._max_channels = math.inf if max_channels is None else max_channels
        self._channels = 0  # connections that are read
        self._strangers: set[Connection] = set()  # those among them not accepted, and not gone
        self._introducing: dict[Connection, asyncio.TimerHandle] = {}
        self._waiting: dict[_Waiting, None] = {}  # connections beyond those, in order

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

    def attributes(self) -> Attributes:
        """The ``SocketAttribute``s of anyio of the listening socket; none once it is closed."""
        sock = self._sock
        return {} if self._closed else local_attributes(sock.family, sock.getsockname())

    def introduced(self, connection: Connection) -> None:
        """The connection's Hello has arrived, or never will: its deadline is off."""
        deadline = self._introducing.pop(connection, None)
        if deadline is not None:
            deadline.cancel()
            if isinstance(connection.end, ProtocolViolation):
                # A stranger that knocks at the wrong door is no news for who runs the service.
                logger.info("%s: a connection was refused: %s", self.address, connection.end)

    def taken(self, connection: Connection) -> None:
        """It is a stranger no more, or gone: the next one may introduce himself."""
        self._strangers.discard(connection)
        self._invite()

    def left(self) -> None:
        """A channel is gone: there is room for another."""
        self._channels -= 1
        self._invite()

    def close(self) -> None:
        """Stop listening, remove the socket's file, and drop who has not said Hello.

        The address is free in the next turn of the loop.
        """
        try:
            sockets.remove_file(self.address, self._identity)
        except OSError as error:
            # A daemon may have given up the right to. That must not keep the socket open.
            logger.warning("%s: its file stays: %s", self.address, error)
        self._identity = None
        server, self._server = self._server, None
        if server is not None:
            # In two steps: asyncio makes transports of what it has accepted a turn later, and
            # when their server is closed by then it forgets them, but does not close them.
            loop = asyncio.get_running_loop()
            with contextlib.suppress(NotImplementedError):  # Windows' proactor loop
                loop.remove_reader(self._sock)
            loop.call_soon(server.close)
        elif not self._closed:
            self._sock.close()
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for stranger in waiting:
            stranger.transport.abort()
        for connection in list(self._introducing):
            connection.abort(ChannelClosed("the listener was closed"))

    def _welcome(self) -> asyncio.Protocol:
        if self._server is None:
            return _Refusal()  # it was under way when the listener closed
        if self._has_place():
            return self._host() or _Refusal()
        if len(self._waiting) < WAITING_CONNECTIONS:
            return _Waiting(self)
        logger.warning(
            "%s: a connection was refused: %d wait already", self.address, len(self._waiting)
        )
        return _Refusal()

    def _has_place(self) -> bool:
        return len(self._strangers) < PENDING_CHANNELS and self._channels < self._max_channels

    def _host(self) -> asyncio.Protocol | None:
        """A protocol for one more stranger, unless channels have run out."""
        try:
            connection = self._admit()
        except ChannelClosed:  # the group is closing, and the listener with it
            return None
        except TofuError as error:
            logger.warning("%s: a connection was refused: %s", self.address, error)
            return None
        self._channels += 1
        self._strangers.add(connection)
        self._introducing[connection] = asyncio.get_running_loop().call_later(
            self._hello_timeout, self._too_late, connection
        )
        return self._layer(connection)

    def wait(self, stranger: _Waiting) -> None:
        """Queue a connection that has come while all places were taken."""
        if self._server is None:
            stranger.transport.abort()  # the listener closed meanwhile
        else:
            self._waiting[stranger] = None
            self._invite()

    def give_up(self, stranger: _Waiting) -> None:
        """It has gone before its turn."""
        self._waiting.pop(stranger, None)

    def _invite(self) -> None:
        while self._waiting and self._has_place():
            stranger = next(iter(self._waiting))
            del self._waiting[stranger]
            protocol = self._host()
            if protocol is None:
                stranger.transport.abort()
            else:
                stranger.become(protocol)

    def _too_late(self, connection: Connection) -> None:
        text = f"no Hello came within {self._hello_timeout:g} s: is it a tofu peer?"
        connection.abort(ProtocolViolation(text, Status.INVALID_OP_CODE))


class _Waiting(asyncio.Protocol):
    """A connection that is not read, and no channel yet, until there is a place for it."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._early = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()
        self._acceptor.wait(self)

    def data_received(self, data: bytes) -> None:
        """Keep it, and stop: uvloop starts to read whatever connection_made has said."""
        self._early += data
        self.transport.pause_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """Wait no more."""
        self._acceptor.give_up(self)

    def become(self, protocol: asyncio.Protocol) -> None:
        """Go on as a channel's connection."""
        transport = self.transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            protocol.data_received(self._early)
        # A Hello needs no permit: nothing keeps it from being read.
        if not transport.is_closing():
            transport.resume_reading()


class _Refusal(asyncio.Protocol):
    """The whole life of a connection that cannot be taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()

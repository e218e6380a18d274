"""What TCP and Unix sockets have in common: an asyncio transport is made of a connected socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import abstractmethod

from ..protocol.address import Address
from . import stand_ins
from .adopted import start_listening_on
from .peer import address_of
from .socket_acceptor import SocketAcceptor
from .socket_options import Option
from .transport import Acceptor, Transport


class SocketTransport(Transport):
    """A transport over sockets. Its subclasses know one kind of them."""

    async def connect(
        self, protocol: asyncio.BaseProtocol, keepalive: float | None
    ) -> Address | None:
        """Connect a socket, and make a transport of it."""
        sock = await self.dial(keepalive)
        peer = None
        with contextlib.suppress(OSError):  # the peer has closed already
            peer = address_of(sock.getpeername())
        loop = asyncio.get_running_loop()
        try:
            transport = await self.attach(loop, protocol, sock)
        except BaseException as error:
            if isinstance(error, Exception):
                sock.close()  # it has no transport; if cancelled, the transport closes it
            else:
                _detach_descriptor(sock, loop)
            raise
        stand_ins.connecting.discard(sock)  # the protocol knows its transport
        if transport.is_closing():  # the peer, or the application, has closed it already
            _detach_descriptor(sock, loop)
        return peer

    async def listen(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> Acceptor:
        """Bind a socket, and listen on it."""
        sock = await self.bind(keepalive, reuse_port=reuse_port, mode=mode)
        return SocketAcceptor(sock, self.bound(sock))

    def listen_on(self, sock: socket.socket, address: Address, keepalive: float | None) -> Acceptor:
        """Listen on a socket that is bound already. If that fails, it stays open.

        Raises:
            ListenFailed: the system refuses it.
            TypeError, ValueError: see ``connect``.
        """
        start_listening_on(sock, address, self.options(keepalive))
        return SocketAcceptor(sock, self.bound(sock), adopted=True)

    @abstractmethod
    async def dial(self, keepalive: float | None) -> socket.socket:
        """Return a connected, non-blocking socket, as a member of ``stand_ins.connecting``."""

    @abstractmethod
    async def attach(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
    ) -> asyncio.BaseTransport:
        """Make an asyncio transport for a connected socket and this protocol."""

    @abstractmethod
    async def bind(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> socket.socket:
        """Return a listening, non-blocking socket. See ``listen``."""

    @abstractmethod
    def bound(self, sock: socket.socket) -> Address:
        """Return the address of a listening socket, with the port that the system chose."""

    @abstractmethod
    def options(self, keepalive: float | None) -> list[Option]:
        """Return the options of a listening socket that the sockets it accepts inherit.

        Raises:
            TypeError, ValueError: see ``connect``.
        """


def _detach_descriptor(sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    """Leave closing the descriptor to the transport.

    The transports of uvloop and winloop may have closed the descriptor without the socket object's
    knowledge. It would close the number again, which may belong to another file by then.
    """
    if not isinstance(loop, asyncio.BaseEventLoop):
        sock.detach()

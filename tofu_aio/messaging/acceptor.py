"""Accepting connections on a socket, and giving its address back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from ..protocol.address import Address, UdsAddress
from . import sockets
from .admission import Admission, Caller
from .attributes import Attributes, local_attributes
from .limits import LISTEN_BACKLOG

logger = logging.getLogger(__name__)


class Acceptor:
    """A listening socket, and the admission that takes what connects to it.

    Args:
        sock: listening; it belongs to the acceptor from now on.
        address: where that is.
        admission: closed together with the socket.

    Attributes:
        address: as given.
    """

    def __init__(self, sock: socket.socket, address: Address, admission: Admission) -> None:
        self.address = address
        self._sock = sock
        self._identity = sockets.file_identity(address)
        self._admission = admission
        self._server: asyncio.Server | None = None
        self._closed = False

    async def start(self) -> None:
        """Accept from now on. The loop itself sees to a shortage of descriptors."""
        loop = asyncio.get_running_loop()
        uds = isinstance(self.address, UdsAddress)
        create = loop.create_unix_server if uds else loop.create_server
        try:
            # In two steps: cancelled in one, it would leave a server that nobody knows.
            self._server = await create(
                lambda: Caller(self._admission),
                sock=self._sock,
                backlog=LISTEN_BACKLOG,
                start_serving=False,
            )
            await self._server.start_serving()
        except BaseException:
            self.close()
            raise

    def attributes(self) -> Attributes:
        """The ``SocketAttribute``s of anyio of the listening socket; none once it is closed."""
        sock = self._sock
        return {} if self._closed else local_attributes(sock.family, sock.getsockname())

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
        if not self._closed:
            sockets.stop_listening(self._sock)
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
        self._admission.close()

    def leave_to_parent(self) -> None:
        """In a forked child: have nothing to close, and no file to remove."""
        self._identity = None
        self._server = None
        self._closed = True

"""Accepting connections on a listening socket, and closing it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from functools import partial
from typing import TypeAlias

from ..accepting import LOST
from ..protocol.address import Address
from ..rare_warnings import RareWarnings
from . import stand_ins
from .failures import cannot_listen, explain
from .limits import ACCEPT_RETRY, ACCEPTED_AT_ONCE
from .peer import address_of
from .socket_attributes import Attributes, local_attributes
from .socket_file import file_of
from .socket_module import note_copies, stop_listening
from .transport import Acceptor, Arrivals
from .windows import Accepted, close_if_cancelled, set_nodelay, usual_errno

logger = logging.getLogger("tofu_aio.listener")

_Made: TypeAlias = tuple[asyncio.BaseTransport, asyncio.BaseProtocol]


class SocketAcceptor(Acceptor):
    """Accepts the connections of a listening socket.

    It does not use the loop's own servers. When there are no file descriptors left, those of
    asyncio log a thousand tracebacks a second, and that of uvloop drops pending connections. This
    one leaves them in the backlog, tries again after a second, and logs one line.

    Args:
        sock: a listening socket, which belongs to the acceptor from now on.
        address: of the socket.
        adopted: whether somebody else has made the socket, and may go on to listen on a copy of it.

    Attributes:
        address: as given.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        *,
        adopted: bool = False,
    ) -> None:
        self.address = address
        self._sock = sock
        self._adopted = adopted
        self._file = None if adopted else file_of(address)
        self._arrivals: Arrivals | None = None
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Task[Accepted] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._arriving: dict[asyncio.Task[_Made], tuple[socket.socket, asyncio.BaseProtocol]] = {}
        self._warnings = RareWarnings(logger, self._loop.time)
        self._stopped = False
        self._closed = False

    def start(self, arrivals: Arrivals) -> None:
        """Start to accept connections.

        Raises:
            ListenFailed: the system has no memory to watch one more socket, which is closed then.
        """
        self._arrivals = arrivals
        try:
            self._watch()
        except OSError as error:
            self.close()
            raise cannot_listen(self.address, error) from error

    def attributes(self) -> Attributes:
        """Return anyio's ``SocketAttribute``s of the listening socket; none once it is closed."""
        sock = self._sock
        return {} if self._stopped else local_attributes(sock.family, sock.getsockname())

    def close(self) -> None:
        """Stop listening, and drop connections without a Hello."""
        if not self._closed:
            self._closed = True
            self.stop()
            if self._arrivals is not None:
                self._arrivals.close()

    def stop(self) -> None:
        """Stop listening, and remove the socket's file. Connections keep their time for a Hello.

        The address is free at once; on Windows' proactor loop shortly afterwards.
        """
        if self._stopped:
            return
        self._stopped = True
        file, self._file = self._file, None
        try:
            if file is not None:
                file.remove()
        except OSError as error:
            # A daemon may have dropped the privileges for this. The socket must be closed anyway.
            logger.warning("%s: the socket's file could not be removed: %s", self.address, error)
        if self._retry is not None:
            self._retry.cancel()
        if self._next is not None:
            self._next.cancel()
        else:
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_reader(self._sock)
        if not self._adopted:
            stop_listening(self._sock)
        self._sock.close()

    async def wait_closed(self) -> None:
        """Wait for the end of this turn of the loop: then the address is free."""
        await asyncio.sleep(0)

    def leave_to_parent(self) -> None:
        """Count as closed in a forked child, where the socket and its file are the parent's."""
        self._file = None
        self._stopped = self._closed = True

    # --- accepting ------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the loop call when there is a connection to accept."""
        try:
            self._loop.add_reader(self._sock, self._accept)
        except NotImplementedError:  # Windows' proactor loop
            self._next = self._loop.create_task(self._sock_accept())
            self._next.add_done_callback(self._accepted)

    async def _sock_accept(self) -> Accepted:
        with usual_errno():
            return await close_if_cancelled(self._loop.sock_accept(self._sock))

    def _accept(self) -> None:
        """Accept some connections; for the others the loop calls this again."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, name = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in LOST:
                    self._loop.remove_reader(self._sock)
                    self._accept_later(error)
                    return
            else:
                self._receive(sock, name)

    def _accepted(self, accepting: asyncio.Task[Accepted]) -> None:
        """Take an accepted connection, on a loop that accepts one at a time."""
        if self._stopped or accepting.cancelled():
            if not accepting.cancelled() and accepting.exception() is None:
                accepting.result()[0].close()
            return
        error = accepting.exception()
        if error is None:
            self._receive(*accepting.result())
        elif not isinstance(error, OSError):
            raise error
        elif error.errno not in LOST:
            self._accept_later(error)
            return
        self._watch()

    def _accept_later(self, error: OSError) -> None:
        text = f"cannot accept connections; trying again every {ACCEPT_RETRY:g} s"
        self._warnings.warn("shortage", f"{self.address}: {text}: {explain(error)}")
        self._retry = self._loop.call_later(ACCEPT_RETRY, self._accept_again)

    def _accept_again(self) -> None:
        try:
            self._watch()
        except OSError as error:
            self._accept_later(error)

    def _receive(self, sock: socket.socket, name: object) -> None:
        """Make a pending connection of a socket, which takes a turn or two of the loop."""
        address = address_of(name)
        assert self._arrivals is not None  # it has been started
        protocol = self._arrivals.expect(address, partial(stand_ins.connecting.discard, sock))
        if protocol is None:
            sock.close()
            return
        sock.setblocking(False)
        if sys.platform == "win32":
            set_nodelay(sock)
        note_copies(sock, stand_ins.connecting)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: protocol, sock),
            name=f"tofu accept {self.address}",
        )
        self._arriving[task] = sock, protocol
        task.add_done_callback(self._received)

    def _received(self, task: asyncio.Task[_Made]) -> None:
        sock, protocol = self._arriving.pop(task)
        if not task.cancelled() and task.exception() is None:
            return
        sock.close()
        protocol.connection_lost(None)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, OSError):
                raise error
            logger.info("%s: a connection was lost while accepting it: %s", self.address, error)

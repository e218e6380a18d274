"""Accepting connections on a socket, and giving its address back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from ...accepting import LOST
from ...protocol.address import Address
from ...transport import stand_ins
from ...transport.failures import cannot_listen, explain
from ...transport.peer import address_of
from ...transport.socket_attributes import Attributes, local_attributes
from ...transport.socket_file import file_of
from ...transport.socket_module import note_copies, stop_listening
from ...transport.windows import Accepted, close_if_cancelled, usual_errno
from ..limits import ACCEPT_RETRY, ACCEPTED_AT_ONCE
from ..rare_warnings import RareWarnings
from .admission import Admission
from .connection_counts import CountedConnection
from .pending_connection import PendingConnection

logger = logging.getLogger("tofu_aio.listener")


class Acceptor:
    """A listening socket, and the admission that takes what connects to it.

    It accepts by itself, not by a server of the loop's. For want of descriptors asyncio's log a
    thousand tracebacks a second, and one of uvloop's drops who waits. This one leaves them waiting,
    tries again after a second, and says so in one line.

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
        self._file = file_of(address)
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Task[Accepted] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._arriving: dict[asyncio.Task[object], tuple[socket.socket, CountedConnection]] = {}
        self._warnings = RareWarnings(logger, self._loop.time)
        self._closed = False

    def start(self) -> None:
        """Accept from now on.

        Raises:
            ListenFailed: the system has no room to watch one more socket. Then it is closed.
        """
        try:
            self._watch()
        except OSError as error:
            self.close()
            raise cannot_listen(self.address, error) from error

    def attributes(self) -> Attributes:
        """The ``SocketAttribute``s of anyio of the listening socket; none once it is closed."""
        sock = self._sock
        return {} if self._closed else local_attributes(sock.family, sock.getsockname())

    def close(self) -> None:
        """Stop listening, remove the socket's file, and drop who has not said Hello.

        The address is free at once; on Windows' proactor loop in a moment.
        """
        if self._closed:
            return
        self._closed = True
        file, self._file = self._file, None
        try:
            if file is not None:
                file.remove()
        except OSError as error:
            # A daemon may have given up the right to. That must not keep the socket open.
            logger.warning("%s: its file stays: %s", self.address, error)
        if self._retry is not None:
            self._retry.cancel()
        if self._next is not None:
            self._next.cancel()
        else:
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_reader(self._sock)
        stop_listening(self._sock)
        self._sock.close()
        self._admission.close()

    def leave_to_parent(self) -> None:
        """In a forked child: have nothing to close, and no file to remove."""
        self._file = None
        self._closed = True

    # --- accepting ------------------------------------------------------------------------

    def _watch(self) -> None:
        """Be told when somebody has connected."""
        try:
            self._loop.add_reader(self._sock, self._accept)
        except NotImplementedError:  # Windows' proactor loop
            self._next = self._loop.create_task(self._sock_accept())
            self._next.add_done_callback(self._accepted)

    async def _sock_accept(self) -> Accepted:
        with usual_errno():
            return await close_if_cancelled(self._loop.sock_accept(self._sock))

    def _accept(self) -> None:
        """Take some of those that have connected; for the others this is called again."""
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
        """Take the one that has connected, on a loop that tells of no more than that."""
        if self._closed or accepting.cancelled():
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
        text = f"cannot accept connections, and tries again every {ACCEPT_RETRY:g} s"
        self._warnings.warn("a shortage", f"{self.address}: {text}: {explain(error)}")
        self._retry = self._loop.call_later(ACCEPT_RETRY, self._accept_again)

    def _accept_again(self) -> None:
        try:
            self._watch()
        except OSError as error:
            self._accept_later(error)

    def _receive(self, sock: socket.socket, name: object) -> None:
        """Make a caller of a connection, in a turn or two."""
        counted = self._admission.count(name)
        if counted is None:
            sock.close()
            return
        address = address_of(name)
        sock.setblocking(False)
        note_copies(sock, stand_ins.connecting)
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: PendingConnection(self._admission, counted, address, sock), sock
            ),
            name=f"tofu accept {self.address}",
        )
        self._arriving[task] = sock, counted
        task.add_done_callback(self._received)

    def _received(self, task: asyncio.Task[object]) -> None:
        sock, counted = self._arriving.pop(task)
        if task.cancelled() or task.exception() is not None:
            sock.close()
            counted.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, OSError):
                raise error
            logger.info("%s: a connection was lost as it was accepted: %s", self.address, error)

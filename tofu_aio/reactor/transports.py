"""The reactor's own transports: those of asyncio, without the bugs that some Pythons have.

These bugs of asyncio are fixed here, in the versions given. Each has a test in
`test_transports.py`.

* An empty chunk in `writelines` keeps the transport open for ever (3.12, 3.13).
* `writelines` raises after the connection was lost (3.12, 3.13), and never pauses the protocol
  (3.12.0, 3.12.1 and 3.13.0).
* If a protocol closes, aborts or loses the transport in `resume_writing`, `connection_lost` is
  called twice, the first time without the error (3.11 to 3.13; datagrams and pipes: all versions).
* Data that is written in `resume_writing` after `close` is never sent (3.12.0, 3.12.1, 3.13.0).
* The cost of writing is linear in the number of chunks that wait (3.12 to 3.14), and each partial
  send copies the rest of a long chunk (since 3.12).
* A partial send of a `memoryview` with items longer than a byte loses or repeats data (all
  versions).
* Without `sendmsg`, data that the system has no room for is dropped (3.12 to 3.14).
* `eof_received` is called again if reading is paused and resumed afterwards (all versions).
* `write_eof` raises if the peer has already closed the connection, instead of leaving that to
  `connection_lost` (all versions).
* A cancelled `loop.sendfile` leaves the transport paused and unknown to its loop. If the transport
  is lost meanwhile, it fails with an unrelated error, or never returns (all versions).
* A `bytearray` that was written cannot be resized, or is sent with later changes, until all of it
  is sent (since 3.12).
* Data that a signal handler or a finalizer writes while earlier data is being sent overtakes it, or
  is never sent (all versions).
* The buffer of a datagram transport never seems to become empty (3.13.0), also after `abort` (all
  versions), so the protocol stays paused.
"""

# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from asyncio import sslproto
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import IO, TYPE_CHECKING, TypeAlias, TypeVarTuple, Unpack

from tofu_aio.reactor.selector_loop import (
    DatagramTransportBase,
    SelectorLoop,
    SocketTransportBase,
    WritePipeTransportBase,
)

if TYPE_CHECKING:
    import ssl

Args = TypeVarTuple("Args")
Data: TypeAlias = bytes | bytearray | memoryview

_DATA = (bytes, bytearray, memoryview)

# The number of chunks that one `sendmsg` accepts: IOV_MAX of Linux, macOS and the BSDs.
_MOST_CHUNKS = 1024

_WRITE_ERROR = "Fatal write error on socket transport"


def sent_one_by_one(sock: socket.socket, views: deque[memoryview]) -> int:
    """Send some of the views, and return the number of bytes that the system has accepted."""
    taken = sock.send(views[0])
    if taken == len(views[0]):
        with contextlib.suppress(BlockingIOError, InterruptedError):
            for at in range(1, min(len(views), _MOST_CHUNKS)):
                sent = sock.send(views[at])
                taken += sent
                if sent < len(views[at]):
                    break
    return taken


if sys.platform == "win32":  # There is no `sendmsg`.
    sent_at_once = sent_one_by_one
else:

    def sent_at_once(sock: socket.socket, views: deque[memoryview]) -> int:
        """Send some of the views with one system call, and return the number of bytes accepted."""
        try:
            chunks = list(islice(views, _MOST_CHUNKS))
        except RuntimeError:  # A signal handler has written since `islice` began: send next time.
            return 0
        return sock.sendmsg(chunks)


class SocketTransport(SocketTransportBase):
    """A transport of a stream socket, with its own implementation of sending.

    Data that cannot be sent at once is kept as views of what was written. If that could still
    change, the rest of it is copied once, and the views are of the copy.
    """

    _sent_of = staticmethod(sent_at_once)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        **options: object,
    ) -> None:
        super().__init__(loop, sock, protocol, **options)
        self._buffer = deque()
        self._buffer_size = 0
        self._eof_read = False
        self._sending_file: asyncio.Task[int] | None = None

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are not sent yet."""
        return self._buffer_size

    def write(self, data: Data) -> None:
        """Send some bytes as soon as the system accepts them. The caller may reuse their buffer."""
        if not (self._may_write and isinstance(data, _DATA) and data):  # type: ignore[redundant-expr]
            super().write(data)  # Raises or drops the data, with asyncio's messages.
            return
        data = _as_bytes(data)
        if self._buffer:
            self._keep(memoryview(data))
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except Exception as error:
            self._fatal_error(error, _WRITE_ERROR)
            return
        if sent < len(data):
            self._add_writer(self._sock_fd, self._send_kept)
            self._keep(memoryview(data)[sent:])

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        """Send several chunks as `write` does, with fewer system calls."""
        if not self._may_write:
            self.write(b"".join(list_of_data))
            return
        views = [memoryview(_as_bytes(data)) for data in list_of_data]
        waits = bool(self._buffer)
        for view in views:
            if view:
                self._buffer.append(_unchanging(view) if waits else view)
                self._buffer_size += len(view)
        if self._buffer and not waits:
            self._send()
            if self._buffer:
                self._add_writer(self._sock_fd, self._send_kept)
                if any(map(_may_change, views)):
                    for at in range(len(self._buffer)):
                        self._buffer[at] = _unchanging(self._buffer[at])
        self._maybe_pause_protocol()

    def write_eof(self) -> None:
        """Close the write side once everything is sent."""
        with contextlib.suppress(OSError):  # The peer has closed already, which reading will show.
            super().write_eof()

    @property
    def _may_write(self) -> bool:
        return not (self._conn_lost or self._eof or self._empty_waiter is not None)

    def _keep(self, view: memoryview) -> None:
        self._buffer.append(_unchanging(view))
        self._buffer_size += len(view)
        self._maybe_pause_protocol()

    def _send_kept(self) -> None:
        """Send what was kept, now that the system has room again."""
        if self._conn_lost:
            return
        self._send()
        if not self._conn_lost:
            self._maybe_resume_protocol()  # The protocol may write, close or abort.
        if not self._buffer and not self._conn_lost:
            self._all_is_sent()

    def _send(self) -> None:
        try:
            sent = self._sent_of(self._sock, self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except Exception as error:
            self._fatal_error(error, _WRITE_ERROR)
            return
        self._buffer_size -= sent
        while sent:
            view = self._buffer[0]
            if len(view) > sent:
                # The buffer is never empty meanwhile, or a signal handler would send at once.
                self._buffer[0] = view[sent:]
                break
            self._buffer.popleft()
            sent -= len(view)

    def _all_is_sent(self) -> None:
        self._loop._remove_writer(self._sock_fd)
        if self._empty_waiter is not None and not self._empty_waiter.done():
            self._empty_waiter.set_result(None)
        if self._buffer:  # A signal handler has written, and its writer was removed as well.
            self._add_writer(self._sock_fd, self._send_kept)
        elif self._closing:
            self._conn_lost += 1
            self._call_connection_lost(None)
        elif self._eof:
            with contextlib.suppress(OSError):  # As in `write_eof`.
                self._sock.shutdown(socket.SHUT_WR)

    def _force_close(self, exc: BaseException | None) -> None:
        super()._force_close(exc)
        self._buffer_size = 0

    async def send_file(self, file: IO[bytes], offset: int, count: int | None) -> int:
        """Let the system send a file once the buffer is empty, and return the number of bytes sent.

        Raises:
            ConnectionError: The connection was lost, or was closed on this side.
            SendfileNotAvailableError: The system cannot send this file.
        """
        loop, sock = self._loop, self._sock
        try:
            await self._make_empty_waiter()
            if self._conn_lost:
                raise _lost()
            sending = loop.create_task(
                loop.sock_sendfile(sock, file, offset, count, fallback=False)
            )
            self._sending_file = sending
            try:
                return await sending
            except asyncio.CancelledError:
                if self._sending_file is not sending:
                    raise _lost() from None
                raise
        finally:
            self._sending_file = None
            self._reset_empty_waiter()

    def _call_connection_lost(self, exc: Exception | None) -> None:
        waiter, self._empty_waiter = self._empty_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(_lost())
        sending, self._sending_file = self._sending_file, None
        if sending is not None:
            self._loop._remove_writer(self._sock_fd)  # The one of `sock_sendfile`.
            sending.cancel()
        super()._call_connection_lost(exc)

    def _add_reader(
        self, fd: int, callback: Callable[[Unpack[Args]], object], *args: *Args
    ) -> None:
        if not self._eof_read:
            super()._add_reader(fd, callback, *args)

    def _read_ready__on_eof(self) -> None:
        self._eof_read = True
        super()._read_ready__on_eof()

    if sys.version_info < (3, 15):

        def _add_writer(
            self, fd: int, callback: Callable[[Unpack[Args]], object], *args: *Args
        ) -> None:
            self._loop._add_writer(fd, callback, *args)


class DatagramTransport(DatagramTransportBase):
    """A transport of a datagram socket."""

    def _sendto_ready(self) -> None:
        super()._sendto_ready()
        if self._loop is not None and not self._buffer and self._buffer_size:
            self._buffer_size = 0
            self._maybe_resume_protocol()

    def _force_close(self, exc: BaseException | None) -> None:
        super()._force_close(exc)
        self._buffer_size = 0

    def _call_connection_lost(self, exc: Exception | None) -> None:
        if self._loop is not None:
            super()._call_connection_lost(exc)


class WritePipeTransport(WritePipeTransportBase):
    """A transport of the write end of a pipe."""

    def write(self, data: Data) -> None:
        """Send some bytes as soon as the system accepts them."""
        super().write(_as_bytes(data))

    def _call_connection_lost(self, exc: Exception | None) -> None:
        if self._loop is not None:
            super()._call_connection_lost(exc)


def _lost() -> ConnectionError:
    return ConnectionError("the connection was closed before the file was sent")


def _as_bytes(data: Data) -> Data:
    """Return the same bytes as an object whose length is the number of bytes."""
    if type(data) is memoryview and (data.ndim != 1 or data.itemsize != 1):
        return data.cast("B")
    return data


def _may_change(view: memoryview) -> bool:
    return type(view.obj) is not bytes


def _unchanging(view: memoryview) -> memoryview:
    """Return the same bytes, copied if they may change."""
    return memoryview(bytes(view)) if _may_change(view) else view


class TransportLoop(SelectorLoop):
    """A selector loop that uses the transports of this module."""

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        **options: object,
    ) -> SocketTransport:
        self._ensure_fd_no_transport(sock)
        return SocketTransport(self, sock, protocol, waiter=waiter, **options)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: int | None = None,
        ssl_shutdown_timeout: int | None = None,
        **options: object,
    ) -> asyncio.BaseTransport:
        upper = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,  # type: ignore[arg-type]  # typeshed does not know of the None
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, upper, None, **options)
        return upper._app_transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: object = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, object] | None = None,
    ) -> DatagramTransport:
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address=address, waiter=waiter, extra=extra)

    if sys.platform != "win32":

        def _make_write_pipe_transport(
            self,
            pipe: object,
            protocol: asyncio.BaseProtocol,
            waiter: asyncio.Future[None] | None = None,
            extra: dict[str, object] | None = None,
        ) -> WritePipeTransport:
            return WritePipeTransport(self, pipe, protocol, waiter=waiter, extra=extra)

    async def _sendfile_native(
        self, transp: SocketTransport, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        # Meanwhile the descriptor is used by `sock_sendfile`, not by the transport.
        fd = transp._sock_fd
        reading = transp.is_reading()
        transp.pause_reading()
        del self._transports[fd]
        try:
            return await transp.send_file(file, offset, count)
        finally:
            if not transp.is_closing():
                self._transports[fd] = transp
                if reading:
                    transp.resume_reading()

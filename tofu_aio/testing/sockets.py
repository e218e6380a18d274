"""Simulated sockets: descriptors for ends of connections, and for listeners."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Final, Self

from .ends import Backlog, End, Name
from .fabric import ANY, Fabric

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
LOOPBACK: Final = ("127.0.0.1", "::1")


class SimulatedSocket:
    """A stream socket that exists only in its world, and never blocks.

    It has the methods of ``socket.socket`` that asyncio uses, and programs that wait for sockets
    with asyncio.
    """

    def __init__(
        self,
        fabric: Fabric,
        family: int,
        kind: int = socket.SOCK_STREAM,
        proto: int = 0,
        target: End | Backlog | None = None,
    ) -> None:
        if kind & ~(getattr(socket, "SOCK_NONBLOCK", 0)) != socket.SOCK_STREAM:
            raise OSError(errno.ESOCKTNOSUPPORT, "a simulated world supports only stream sockets")
        self.family = socket.AddressFamily(family)
        self.type = socket.SOCK_STREAM
        self.proto = proto
        self._fabric = fabric
        self._options: dict[tuple[int, int], object] = {}
        self._bound: Name | None = None
        self._target: End | Backlog | None = None
        self._descriptor = fabric.kernel.open_descriptor(self)
        if target is not None:
            self._attach(target)

    # --- the descriptor -------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the simulated descriptor; -1 once closed."""
        return self._descriptor

    def readiness(self) -> int:
        """The events of ``selectors`` that are ready."""
        return self._target.readiness() if self._target is not None else 0

    def dup(self) -> SimulatedSocket:
        """Create another descriptor for the same end or listener."""
        self._check_open()
        twin = SimulatedSocket(self._fabric, self.family, self.type, self.proto, self._target)
        twin._options = self._options
        return twin

    def close(self) -> None:
        """Close it, and with its last descriptor the end or the listener. May be repeated."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        self._fabric.kernel.close_descriptor(descriptor)
        if self._target is not None:
            del self._target.descriptors[descriptor]
            if not self._target.descriptors:
                linger = self._options.get((socket.SOL_SOCKET, socket.SO_LINGER))
                self._target.close(hard=isinstance(linger, bytes) and any(linger))

    def detach(self) -> int:
        """Not supported: no system call could use the simulated descriptor.

        Raises:
            OSError: always.
        """
        raise OSError(errno.EOPNOTSUPP, "a simulated socket cannot be detached")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SimulatedSocket {self._descriptor} {self._target or self._bound or 'new'}>"

    # --- options --------------------------------------------------------------------------

    def setblocking(self, flag: bool) -> None:
        """Accept only False: a blocking call would stop virtual time.

        Raises:
            ValueError: ``flag`` is True.
        """
        if flag:
            raise ValueError(
                "a simulated socket cannot block, as that would stop virtual time: use the loop"
            )

    def settimeout(self, value: float | None) -> None:
        """Accept only 0, like ``setblocking``."""
        self.setblocking(value is None or value > 0)

    def gettimeout(self) -> float:
        """Return 0: it never blocks."""
        return 0.0

    def setsockopt(self, level: int, option: int, value: object, _size: int = 0) -> None:
        """Store an option. ``SO_LINGER`` makes closing a reset; others have no effect."""
        self._check_open()
        self._options[level, option] = value

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """Return an option's value; for ``SO_ERROR`` the pending error.

        Raises:
            OSError: the option was never set.
        """
        self._check_open()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self._target.pop_error() if isinstance(self._target, End) else 0
        value = self._options.get((level, option), 0 if not size else None)
        if isinstance(value, int | bytes):
            return value
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    # --- names ----------------------------------------------------------------------------

    def getsockname(self) -> Name | bytes:
        """Return the socket's own name."""
        self._check_open()
        if isinstance(self._target, End):
            return _shown(self._target.own)
        if isinstance(self._target, Backlog):
            return _shown(self._target.name)
        return _shown(self._bound) if self._bound is not None else self._unnamed()

    def getpeername(self) -> Name | bytes:
        """Return the name of the other end.

        Raises:
            OSError: it is not connected, or the connection is lost.
        """
        self._check_open()
        return _shown(self._connection(reset_too=False).peer)

    def bind(self, name: Name) -> None:
        """Give the socket a name. Port 0 becomes an unused port.

        Raises:
            OSError: the name is in use, or is a path: a simulated world has no files.
        """
        self._check_open()
        if isinstance(name, str) and name[:1] not in {"", "\0"}:
            raise OSError(errno.EROFS, "a simulated world has no files: use uds://@name or tcp://")
        if not isinstance(name, str):
            port = name[1] or self._fabric.unused_port()
            name = (name[0], port) if self.family == socket.AF_INET else (name[0], port, 0, 0)
        if self._fabric.is_listening(name):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._bound = name

    # --- connections ----------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        """Let others connect, or change the size of the backlog."""
        self._check_open()
        if isinstance(self._target, Backlog):
            self._target.size = backlog
            return
        if self._bound is None:
            self.bind(self._unnamed())
        assert self._bound is not None
        self._attach(self._fabric.listen(self._bound, backlog))

    def accept(self) -> tuple[SimulatedSocket, Name | bytes]:
        """Return a socket for the next pending connection, and the peer's name.

        Raises:
            BlockingIOError: no connection is pending.
            OSError: drawn from the network's ``accept_failures``.
        """
        self._check_open()
        if not isinstance(self._target, Backlog):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        end = self._target.accept()
        sock = SimulatedSocket(self._fabric, self.family, self.type, self.proto, end)
        return sock, _shown(end.peer)

    def connect(self, name: Name) -> None:
        """Begin to connect, which over the network takes some time.

        Raises:
            BlockingIOError: connecting has begun; or the backlog of a Unix listener is full.
            ConnectionRefusedError: no Unix listener has this name.
        """
        self._check_open()
        own = self._bound
        if self.family not in _INTERNET:
            end = self._fabric.create_end(own or "", name)
            self._fabric.connect_now(end)
            self._attach(end)
            return
        assert not isinstance(name, str)
        if own is None or _is_anywhere(own):
            own = (LOOPBACK[0], self._fabric.unused_port())
            if self.family == socket.AF_INET6:
                own = (LOOPBACK[1], own[1], 0, 0)
        end = self._fabric.create_end(own, name)
        self._attach(end)
        self._fabric.connect(end)
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def connect_ex(self, name: Name) -> int:
        """Connect like ``connect``, but return the error's number."""
        try:
            self.connect(name)
        except OSError as error:
            return error.errno or 0
        return 0

    # --- data -----------------------------------------------------------------------------

    def recv(self, size: int, _flags: int = 0) -> bytes:
        """Return some of the bytes that have arrived; none at the end of the stream.

        Raises:
            BlockingIOError: nothing has arrived.
            ConnectionResetError: the connection was lost, and everything before that was read.
        """
        end = self._connection()
        if end.incoming.arrived:
            return end.incoming.read(size)
        if end.error:
            raise _failure(end.pop_error())
        if end.incoming.eof_arrived or end.lost:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, _flags: int = 0) -> int:
        """Receive like ``recv``, into a buffer."""
        with memoryview(buffer) as view, view.cast("B") as octets:
            data = self.recv(size or len(octets))
            octets[: len(data)] = data
        return len(data)

    def send(self, data: bytes | bytearray | memoryview, _flags: int = 0) -> int:
        """Send some of the data, and return how many bytes.

        Raises:
            BlockingIOError: there is no room.
            ConnectionResetError, BrokenPipeError: the connection was lost, or shut down.
        """
        end = self._connection()
        if end.error:
            raise _failure(end.pop_error())
        if end.lost or end.outgoing.finished:
            raise _failure(errno.EPIPE)
        with memoryview(data) as view, view.cast("B") as octets:
            taken = end.outgoing.write(octets)
            if not taken and octets:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return taken

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview]) -> int:
        """Send like ``send``, from several buffers, but no more than the send buffer could hold."""
        start = bytearray()
        for piece in buffers:
            with memoryview(piece) as view:
                start += view[: self._fabric.network.send_buffer - len(start)]
            if len(start) == self._fabric.network.send_buffer:
                break
        return self.send(start)

    def shutdown(self, how: int) -> None:
        """End the stream in the sending direction. ``SHUT_RD`` is not simulated."""
        end = self._connection(reset_too=False)
        if how != socket.SHUT_RD:
            end.outgoing.finish()
            end.readiness_changed()

    # --- helpers --------------------------------------------------------------------------

    def _attach(self, target: End | Backlog) -> None:
        self._target = target
        target.descriptors[self._descriptor] = None

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _connection(self, *, reset_too: bool = True) -> End:
        self._check_open()
        end = self._target
        if not isinstance(end, End) or not end.connected or (end.lost and not reset_too):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return end

    def _unnamed(self) -> Name:
        if self.family not in _INTERNET:
            return ""
        return ("0.0.0.0", 0) if self.family == socket.AF_INET else ("::", 0, 0, 0)  # noqa: S104


def _shown(name: Name) -> Name | bytes:
    """A name as the system reports it: for an abstract Unix socket it is bytes."""
    return name.encode() if isinstance(name, str) and name[:1] == "\0" else name


def _is_anywhere(own: Name) -> bool:
    return own[0] in ANY


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))

"""Simulated sockets: descriptors of what is at an end of the simulated network."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Final, Self

from .ends import ANY, Backlog, End, Fabric, Name, place_of

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
LOOPBACK: Final = ("127.0.0.1", "::1")


class SimulatedSocket:
    """A stream socket that exists only in its world. It never blocks.

    What asyncio, and programs that wait for sockets with it, use of a ``socket.socket``.
    """

    def __init__(
        self,
        fabric: Fabric,
        family: int,
        kind: int = socket.SOCK_STREAM,
        proto: int = 0,
        what: End | Backlog | None = None,
    ) -> None:
        if kind & ~(getattr(socket, "SOCK_NONBLOCK", 0)) != socket.SOCK_STREAM:
            raise OSError(errno.ESOCKTNOSUPPORT, "a simulated world has stream sockets only")
        self.family = socket.AddressFamily(family)
        self.type = socket.SOCK_STREAM
        self.proto = proto
        self._fabric = fabric
        self._options: dict[tuple[int, int], object] = {}
        self._bound: Name | None = None
        self._what: End | Backlog | None = None
        self._descriptor = fabric.kernel.open(self)
        if what is not None:
            self._stand_for(what)

    # --- a descriptor ---------------------------------------------------------------------

    def fileno(self) -> int:
        """Its descriptor, -1 once closed: no real one."""
        return self._descriptor

    def readiness(self) -> int:
        """The selectors' events that would not block now."""
        return self._what.readiness() if self._what is not None else 0

    def dup(self) -> SimulatedSocket:
        """Another descriptor of the same."""
        self._check_open()
        twin = SimulatedSocket(self._fabric, self.family, self.type, self.proto, self._what)
        twin._options = self._options
        return twin

    def close(self) -> None:
        """Close it; what it stands for ends with its last descriptor. Repeatable."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        self._fabric.kernel.shut(descriptor)
        if self._what is not None:
            del self._what.descriptors[descriptor]
            if not self._what.descriptors:
                linger = self._options.get((socket.SOL_SOCKET, socket.SO_LINGER))
                self._what.close(hard=isinstance(linger, bytes) and any(linger))

    def detach(self) -> int:
        """Refused: there is nothing that a number alone could be used with."""
        raise OSError(errno.EOPNOTSUPP, "a simulated socket cannot be detached")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SimulatedSocket {self._descriptor} {self._what or self._bound or 'new'}>"

    # --- options --------------------------------------------------------------------------

    def setblocking(self, flag: bool) -> None:
        """Never block: nothing else could be simulated.

        Raises:
            ValueError: it shall.
        """
        if flag:
            raise ValueError("a simulated socket cannot block: it would stop the time")

    def settimeout(self, value: float | None) -> None:
        """As ``setblocking``."""
        self.setblocking(value is None or value > 0)

    def gettimeout(self) -> float:
        """It never blocks."""
        return 0.0

    def setsockopt(self, level: int, option: int, value: object, _size: int = 0) -> None:
        """Keep an option. ``SO_LINGER`` makes closing a reset; no other one does anything."""
        self._check_open()
        self._options[level, option] = value

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """An option's value, ``SO_ERROR`` the error that waits.

        Raises:
            OSError: it was never set.
        """
        self._check_open()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self._what.take_error() if isinstance(self._what, End) else 0
        value = self._options.get((level, option), 0 if not size else None)
        if isinstance(value, int | bytes):
            return value
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    # --- names ----------------------------------------------------------------------------

    def getsockname(self) -> Name | bytes:
        """Its own name."""
        self._check_open()
        if isinstance(self._what, End):
            return _shown(self._what.own)
        if isinstance(self._what, Backlog):
            return _shown(self._what.name)
        return _shown(self._bound) if self._bound is not None else self._unnamed()

    def getpeername(self) -> Name | bytes:
        """The other end's.

        Raises:
            OSError: there is none, or it is lost.
        """
        self._check_open()
        return _shown(self._connection(reset_too=False).peer)

    def bind(self, name: Name) -> None:
        """Take a name, with a fresh port for 0.

        Raises:
            OSError: it is taken, or a path: there are no files.
        """
        self._check_open()
        if isinstance(name, str) and name[:1] not in {"", "\0"}:
            raise OSError(errno.EROFS, "a simulated world has no files: use uds://@name, or tcp")
        if not isinstance(name, str):
            port = name[1] or self._fabric.port()
            name = (name[0], port) if self.family == socket.AF_INET else (name[0], port, 0, 0)
        if place_of(name) in self._fabric.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._bound = name

    # --- connections ----------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        """Let others connect, or so many more of them."""
        self._check_open()
        if isinstance(self._what, Backlog):
            self._what.size = backlog
            return
        if self._bound is None:
            self.bind(self._unnamed())
        assert self._bound is not None
        if place_of(self._bound) in self._fabric.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        queue = Backlog(self._fabric, self._bound, backlog)
        self._fabric.listeners[place_of(self._bound)] = queue
        self._stand_for(queue)

    def accept(self) -> tuple[SimulatedSocket, Name | bytes]:
        """The next connection, and who made it.

        Raises:
            BlockingIOError: there is none.
            OSError: the network's ``accept_failures``.
        """
        self._check_open()
        if not isinstance(self._what, Backlog):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        end = self._what.take()
        sock = SimulatedSocket(self._fabric, self.family, self.type, self.proto, end)
        return sock, _shown(end.peer)

    def connect(self, name: Name) -> None:
        """Begin to connect; over the network that takes time.

        Raises:
            BlockingIOError: it has begun, or a Unix listener's queue is full.
            ConnectionRefusedError: nobody listens at a Unix socket's name.
        """
        self._check_open()
        own = self._bound
        if self.family not in _INTERNET:
            end = End(self._fabric, own or "", name)
            self._fabric.connect_now(end)
            self._stand_for(end)
            return
        assert not isinstance(name, str)
        if own is None or _is_anywhere(own):
            own = (LOOPBACK[0], self._fabric.port())
            if self.family == socket.AF_INET6:
                own = (LOOPBACK[1], own[1], 0, 0)
        end = End(self._fabric, own, name)
        self._stand_for(end)
        self._fabric.connect(end)
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def connect_ex(self, name: Name) -> int:
        """As ``connect``, with the error as a number."""
        try:
            self.connect(name)
        except OSError as error:
            return error.errno or 0
        return 0

    # --- data -----------------------------------------------------------------------------

    def recv(self, size: int, _flags: int = 0) -> bytes:
        """Some of what has arrived; nothing at the end of the stream.

        Raises:
            BlockingIOError: nothing is here yet.
            ConnectionResetError: it was lost, and everything before has been read.
        """
        end = self._connection()
        if end.incoming.arrived:
            return end.incoming.read(size)
        if end.error:
            raise _failure(end.take_error())
        if end.incoming.ended or end.lost:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, _flags: int = 0) -> int:
        """As ``recv``."""
        with memoryview(buffer) as view, view.cast("B") as octets:
            data = self.recv(size or len(octets))
            octets[: len(data)] = data
        return len(data)

    def send(self, data: bytes | bytearray | memoryview, _flags: int = 0) -> int:
        """Take some of the data; return how much.

        Raises:
            BlockingIOError: there is no room.
            ConnectionResetError, BrokenPipeError: it was lost, or its last word is said.
        """
        end = self._connection()
        if end.error:
            raise _failure(end.take_error())
        if end.lost or end.outgoing.shut:
            raise _failure(errno.EPIPE)
        with memoryview(data) as view, view.cast("B") as octets:
            taken = end.outgoing.write(octets)
            if not taken and octets:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return taken

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview]) -> int:
        """As ``send``, of several pieces; of no more than it could take anyway."""
        start = bytearray()
        for piece in buffers:
            with memoryview(piece) as view:
                start += view[: self._fabric.network.send_buffer - len(start)]
            if len(start) == self._fabric.network.send_buffer:
                break
        return self.send(start)

    def shutdown(self, how: int) -> None:
        """Say that nothing more is sent. That nothing more is wanted is not simulated."""
        end = self._connection(reset_too=False)
        if how != socket.SHUT_RD:
            end.outgoing.shut_down()
            end.stir()

    # --- the parts ------------------------------------------------------------------------

    def _stand_for(self, what: End | Backlog) -> None:
        self._what = what
        what.descriptors[self._descriptor] = None

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _connection(self, *, reset_too: bool = True) -> End:
        self._check_open()
        end = self._what
        if not isinstance(end, End) or not end.connected or (end.lost and not reset_too):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return end

    def _unnamed(self) -> Name:
        if self.family not in _INTERNET:
            return ""
        return ("0.0.0.0", 0) if self.family == socket.AF_INET else ("::", 0, 0, 0)  # noqa: S104


def _shown(name: Name) -> Name | bytes:
    """As the system tells a name: that of an abstract Unix socket is no text."""
    return name.encode() if isinstance(name, str) and name[:1] == "\0" else name


def _is_anywhere(own: Name) -> bool:
    return own[0] in ANY


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))

"""Creating sockets, and what all kinds of sockets have in common."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import Protocol, cast
from weakref import WeakSet

from . import stand_ins
from .happy_eyeballs import SocketName
from .limits import LISTEN_BACKLOG
from .socket_options import Option


class SocketModule(Protocol):
    """The functions of the module ``socket`` that the transports use to create sockets."""

    def has_dualstack_ipv6(self) -> bool:
        """Whether one listener can serve both IPv4 and IPv6."""

    def fromfd(self, fd: int, family: int, kind: int, /) -> socket.socket:
        """Duplicate the file descriptor of a socket."""

    def socket(self, family: int, kind: int, proto: int = ..., /) -> socket.socket:
        """Create a socket."""


def socket_module() -> SocketModule:
    """Return the module that creates the sockets for the running loop.

    That is the module ``socket``, unless the loop has an attribute ``socket_module``: a loop with a
    simulated network has simulated sockets, and all other operations on sockets go through the
    loop anyway.
    """
    return cast("SocketModule", getattr(asyncio.get_running_loop(), "socket_module", socket))


def note_copies(sock: socket.socket, copied: WeakSet[socket.socket]) -> None:
    """Add a socket to those that a forked child must replace, unless it is a simulated one.

    A simulated socket has no file descriptor that a child could inherit.
    """
    if socket_module() is socket:
        copied.add(sock)


@contextlib.contextmanager
def closed_on_failure(sock: socket.socket) -> Iterator[None]:
    """Close a socket if the block raises."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


def start_listening(
    sock: socket.socket, name: SocketName, options: Iterable[Option] = ()
) -> socket.socket:
    """Bind a socket and listen on it. If that fails, close it."""
    with closed_on_failure(sock):
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        sock.bind(name)
        listen_on(sock)
    return sock


def listen_on(sock: socket.socket) -> None:
    """Listen on a bound socket."""
    sock.listen(LISTEN_BACKLOG)
    note_listening(sock)


def note_listening(sock: socket.socket) -> None:
    """Note a listening socket, which a forked child must replace."""
    note_copies(sock, stand_ins.listening)


def stop_listening(sock: socket.socket) -> None:
    """Refuse new connections and free the address at once, before the socket is closed.

    Closing alone may not be enough: the kernel stops listening when the last copy of the socket is
    closed, and a child that was just forked has a copy until it begins to run.
    """
    with contextlib.suppress(OSError):  # only Linux supports this for listeners; else ENOTCONN
        sock.shutdown(socket.SHUT_RDWR)

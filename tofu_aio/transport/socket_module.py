"""Where sockets come from, and what is done with all of them alike."""

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
    """The functions of the module ``socket`` that make sockets, or look for where they could be."""

    def has_dualstack_ipv6(self) -> bool:
        """Whether one listener can serve both families."""

    def fromfd(self, fd: int, family: int, kind: int, /) -> socket.socket:
        """Another descriptor of the same one."""

    def socket(self, family: int, kind: int, proto: int = ..., /) -> socket.socket:
        """A new one."""


def socket_module() -> SocketModule:
    """What makes sockets for the running loop: the module ``socket``.

    Or the loop's own ``socket_module``: a loop that brings its own network, a simulated one, has
    sockets of its own as well, and everything else asks only the loop about them.
    """
    return cast("SocketModule", getattr(asyncio.get_running_loop(), "socket_module", socket))


def note_copies(sock: socket.socket, copied: WeakSet[socket.socket]) -> None:
    """Note what a forked child gets a copy of. The descriptor of a simulated one is none."""
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
    """Bind a socket, and listen on it; it is closed if that fails."""
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
    note_copies(sock, stand_ins.listening)


def stop_listening(sock: socket.socket) -> None:
    """Let nobody connect any more, and the address go, before the socket is closed.

    The kernel closes it when the last copy of it closes, and a child that was just forked has one
    until it begins to run.
    """
    with contextlib.suppress(OSError):  # only Linux knows this of listeners; elsewhere ENOTCONN
        sock.shutdown(socket.SHUT_RDWR)

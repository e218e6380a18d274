"""Listening on a socket that exists already: one of the application's, or an inherited one."""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from collections.abc import Iterable
from typing import Final, Never

from ..protocol.address import Address, FdAddress
from ..protocol.errors import ListenFailed, WrongAddress
from .failures import explain, failure
from .peer import address_of
from .socket_module import listen_on, note_listening, socket_module
from .socket_options import Option
from .transport import Transport

_FAMILIES: Final = {
    socket.AF_INET,
    socket.AF_INET6,
    *([socket.AF_UNIX] if hasattr(socket, "AF_UNIX") else []),
}

_PASSES_DESCRIPTORS: Final[bool] = sys.platform != "win32"

_CAUSES: Final = {
    errno.EBADF: "no file is open there: check that the service manager passes a socket",
    errno.ENOTSOCK: "the file there is not a socket: check the number",
}


class FdTransport(Transport):
    """Finds an inherited socket, whose own address then selects the transport.

    Args:
        address: of the descriptor.
    """

    networked = False
    has_hosts = False

    def __init__(self, address: FdAddress) -> None:
        self._address = address

    def inherited(self) -> socket.socket:
        """Return the socket of the descriptor, which child processes do not inherit any more.

        Raises:
            ListenFailed, WrongAddress: there is none; the message says why, and what to do.
        """
        if not _PASSES_DESCRIPTORS:
            raise WrongAddress(f"{self._address}: Windows passes no sockets on: use sock=")
        try:
            sock = socket.socket(fileno=self._address.fd)
        except OSError as error:
            cause = explain(error, _CAUSES)
            text = f"cannot listen on {self._address}: {cause}"
            raise failure(ListenFailed, text, [error]) from error
        sock.set_inheritable(False)
        return sock

    async def connect(self, *_: object) -> Never:
        """Refuse."""
        raise WrongAddress(
            f"{self._address} is for listening only: to connect, give the listener's address"
        )

    async def listen(self, *_: object, **__: object) -> Never:
        """Refuse: the message API has no use for it."""
        raise WrongAddress(f"{self._address} is for listen() only, not for WELCOME_REQUEST")


def local_address(sock: object) -> Address:
    """Check that a socket can be listened on, and return its address.

    Raises:
        TypeError: it is not a socket, or one with TLS.
        WrongAddress: it is not a stream socket of a kind that is known here.
        ListenFailed: it is closed, connected, or not bound.
    """
    if not isinstance(sock, socket.socket) or isinstance(sock, ssl.SSLSocket):
        raise TypeError(f"sock is {sock!r:.80}: give a plain socket.socket, and ssl= for TLS")
    if socket_module() is not socket:
        raise WrongAddress("a loop with a simulated network takes no sockets: give an address")
    if sock.fileno() < 0:
        raise ListenFailed("cannot listen on a closed socket: give one that is open")
    if sock.family not in _FAMILIES:
        raise WrongAddress(
            f"cannot listen on {sock!r}: its family is unknown here: use AF_INET, AF_INET6 or "
            "AF_UNIX"
        )
    if sock.type != socket.SOCK_STREAM:
        raise WrongAddress(
            f"cannot listen on {sock!r}: it is not a stream socket: make it with SOCK_STREAM"
        )
    if _is_connected(sock):
        raise ListenFailed(
            f"cannot listen on {sock!r}: it is connected: give one that is only bound"
        )
    try:
        address = address_of(sock.getsockname())
    except OSError as error:
        text = f"cannot listen on {sock!r}: {explain(error)}"
        raise failure(ListenFailed, text, [error]) from error
    if address is None or getattr(address, "port", None) == 0:
        raise ListenFailed(f"cannot listen on {sock!r}: it is not bound: call its bind() first")
    return address


def start_listening_on(sock: socket.socket, address: Address, options: Iterable[Option]) -> None:
    """Listen on a bound socket, unless it listens already. If that fails, it stays open.

    Raises:
        ListenFailed: the system refuses it.
    """
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        if _listens(sock):
            note_listening(sock)  # its owner has chosen the length of its queue
        else:
            listen_on(sock)
    except OSError as error:
        text = f"cannot listen on {address}: {explain(error)}"
        raise failure(ListenFailed, text, [error]) from error


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _listens(sock: socket.socket) -> bool:
    option: int | None = getattr(socket, "SO_ACCEPTCONN", None)
    return option is not None and sock.getsockopt(socket.SOL_SOCKET, option) != 0

"""Unread data of a failed connection, which the kernel or the transport still holds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from .socket_module import socket_module
from .tls import Tls

UNREAD: Final = "tofu_unread"
"""The name of the extra info of a transport without a socket: a function that returns the next
bytes that have arrived and were not read, and none at the end."""

_CHUNK: Final = 256 * 1024


class Unread(Protocol):
    """The unread data of a lost connection, which is read as permits become free."""

    def read(self) -> bytes:
        """Return the next bytes; none at the end."""


def unread_of(transport: asyncio.Transport) -> Unread | None:
    """Keep what a transport has received and its protocol has not read; None if there is nothing.

    Args:
        transport: it is being closed, but its socket, if it has one, is still open.
    """
    kept = transport.get_extra_info(UNREAD)
    if kept is not None:
        return _Kept(cast("Callable[[], bytes]", kept))
    return _UnreadSocket.of(transport)


class _Kept:
    """Data that the transport itself has kept."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.read = read


class _UnreadSocket:
    """Data that the kernel has kept.

    A loop often notices through a failed *write* that the peer has disconnected, and closes the
    socket immediately. But the kernel keeps what the peer sent before that, even after a reset, as
    long as the socket is open (tcp(7), unix(7)). So a duplicate of the socket stays open until all
    data has been read.
    """

    __slots__ = ("_decrypt", "_sock")

    def __init__(self, sock: socket.socket, decrypt: Callable[[bytes], bytes] | None) -> None:
        self._sock = sock
        self._decrypt = decrypt

    @classmethod
    def of(cls, transport: asyncio.Transport) -> _UnreadSocket | None:
        """Keep the socket of a transport open; None if that is not possible.

        Args:
            transport: its socket must still be open.
        """
        own = transport.get_extra_info("socket")
        if own is None:
            return None
        try:
            sock = socket_module().fromfd(own.fileno(), own.family, own.type)
        except OSError:  # there is no descriptor left, or the socket is closed already
            return None
        sock.setblocking(False)
        return cls(sock, transport.decrypt if isinstance(transport, Tls) else None)

    def read(self) -> bytes:
        """Return the next bytes. At the end, close the socket and return none."""
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except OSError:  # the reset, or there is no data
                data = b""
            if not data:
                self._sock.close()
            elif self._decrypt is not None:
                data = self._decrypt(data)
                if not data:
                    continue  # an incomplete TLS record
            return data

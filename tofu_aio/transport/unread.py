"""What the kernel still holds of a connection that failed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Self

from .socket_module import socket_module
from .tls import Tls

_CHUNK: Final = 256 * 1024


class Unread:
    """The unread bytes of a lost connection, to be read as far as there are permits for them.

    A failed *write* is how a loop notices that the peer has gone, and it closes the socket there
    and then. But the kernel keeps what the peer sent before, reset or not, as long as somebody
    has the socket open (tcp(7), unix(7)): so a copy of it stays until all has been read.
    """

    __slots__ = ("_decrypt", "_sock")

    def __init__(self, sock: socket.socket, decrypt: Callable[[bytes], bytes] | None) -> None:
        self._sock = sock
        self._decrypt = decrypt

    @classmethod
    def of(cls, transport: asyncio.Transport) -> Self | None:
        """Those of a transport whose socket is still open; None where they cannot be read."""
        own = transport.get_extra_info("socket")
        if own is None:
            return None
        try:
            sock = socket_module().fromfd(own.fileno(), own.family, own.type)
        except OSError:  # no descriptor left, or none any more
            return None
        sock.setblocking(False)
        return cls(sock, transport.decrypt if isinstance(transport, Tls) else None)

    def read(self) -> bytes:
        """The next bytes; none at the end, and then all is closed."""
        while True:
            try:
                data = self._sock.recv(_CHUNK)
            except OSError:  # the reset itself, or nothing there
                data = b""
            if not data:
                self._sock.close()
            elif self._decrypt is not None:
                data = self._decrypt(data)
                if not data:
                    continue  # a part of a record
            return data

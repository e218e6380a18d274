"""Resolving host names to addresses."""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import Final, cast

from ..protocol.errors import AllocationFailed
from ..worker_threads import Threads
from .happy_eyeballs import Endpoint, SocketName
from .limits import LOOKUPS

# getaddrinfo encodes each name with this codec. Load it now: later there may be no file descriptor
# left to read its module with.
"".encode("idna")

_lookups: Final = Threads("tofu_aio name look-up", LOOKUPS)


async def resolve(host: str, port: int) -> list[Endpoint]:
    """Look up the addresses of a host.

    A numeric address is converted at once; a name is looked up by the system's resolver, in a
    thread.

    Raises:
        OSError: the host has no address (now), or there is no file descriptor or thread left for
            the look-up.
        UnicodeError: the name is not a valid host name.
    """
    try:
        return _numeric(host, port) or await _lookups.run(partial(_look_up, host, port))
    except AllocationFailed as error:
        raise OSError(errno.EAGAIN, str(error)) from error


def _numeric(host: str, port: int) -> list[Endpoint]:
    """Convert a numeric address, including the scope of an IPv6 one. A name gives an empty list."""
    if not host.isascii():
        return []
    try:
        return _getaddrinfo(host.encode(), port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return []


def _look_up(host: str, port: int) -> list[Endpoint]:
    """Call the system's resolver, which blocks."""
    try:
        return _getaddrinfo(host, port)
    except OSError:
        # If they cannot open a file or a socket, some resolvers report an unknown name, and others
        # (such as libnss-mdns) an invalid argument. In that case this raises the real reason.
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
        raise


def _getaddrinfo(host: str | bytes, port: int, flags: int = 0) -> list[Endpoint]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    # The stubs allow for raw addresses of an unknown family, which this query does not return.
    return [(family, cast("SocketName", name)) for family, _, _, _, name in answers]

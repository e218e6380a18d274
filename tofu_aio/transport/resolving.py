"""What addresses a host has."""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import Final, cast

from ..protocol.errors import AllocationFailed
from ..worker_threads import Threads
from .happy_eyeballs import Place, SocketName
from .limits import LOOKUPS

# Each name goes through this codec. Loaded now: later there may be no descriptor to read it with.
"".encode("idna")

_lookups: Final = Threads("tofu_aio name look-up", LOOKUPS)


async def resolve(host: str, port: int) -> list[Place]:
    """The addresses of a host: at once for a number, by the system's resolver for a name.

    Raises:
        OSError: it has none now, and may have one later; or there is no descriptor, or no thread,
            to look for it with.
        UnicodeError: no host can have this name.
    """
    try:
        return _number(host, port) or await _lookups.run(partial(_look_up, host, port))
    except AllocationFailed as error:
        raise OSError(errno.EAGAIN, str(error)) from error


def _number(host: str, port: int) -> list[Place]:
    """What a numeric address means, with an IPv6 one's scope. Nothing if it is a name."""
    if not host.isascii():
        return []
    try:
        return _found(host.encode(), port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return []


def _look_up(host: str, port: int) -> list[Place]:
    """Ask the system, and wait."""
    try:
        return _found(host, port)
    except OSError:
        # When they can open no file or socket, some resolvers call the name unknown, and others,
        # libnss-mdns for one, an argument invalid.
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
        raise


def _found(host: str | bytes, port: int, flags: int = 0) -> list[Place]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    # The stubs allow for a raw address of an unknown family, which this query cannot bring.
    return [(family, cast("SocketName", name)) for family, _, _, _, name in answers]

"""Options of TCP sockets."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import sys
from typing import Final, TypeAlias

from ..checks import checked_seconds
from ..protocol.address import Address
from ..protocol.errors import ListenFailed
from .limits import KEEPALIVE_MAX, KEEPALIVE_MIN, KEEPALIVE_PROBES

Option: TypeAlias = tuple[int, int, int]
"""The arguments of setsockopt(2): level, name and value."""

_RESET: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""struct linger, on with 0 seconds: closing sends RST and drops what is unsent (socket(7))."""


def keepalive_options(keepalive: float | None) -> list[Option]:
    """Return the socket options for keep-alive probes by the kernel; none for None.

    Args:
        keepalive: seconds of silence before the first probe. The further probes are spread over
            the same time again; then the connection is lost.

    Raises:
        TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds.
    """
    if keepalive is None:
        return []
    checked_seconds("keepalive", keepalive, KEEPALIVE_MIN, KEEPALIVE_MAX)
    idle = math.ceil(keepalive)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Linux, Windows and the BSDs call the first one TCP_KEEPIDLE, macOS TCP_KEEPALIVE.
    for name, value in (
        ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", idle),
        ("TCP_KEEPINTVL", math.ceil(keepalive / KEEPALIVE_PROBES)),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        number = getattr(socket, name, None)
        if number is not None:
            options.append((socket.IPPROTO_TCP, number, value))
    return options


def reuse_port_option(address: Address) -> int:
    """Return the number of SO_REUSEPORT.

    Raises:
        ListenFailed: this system does not have it.
    """
    option: int | None = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise ListenFailed(
            f"cannot listen on {address}: this system has no SO_REUSEPORT: leave out reuse_port"
        )
    return option


def reset_on_closing(sock: socket.socket | None) -> None:
    """Have the connection of a TCP socket reset when it is closed, which drops what is unsent."""
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        # Fails if the peer has reset the connection already, or, on uvloop, if it is closed.
        with contextlib.suppress(OSError, ValueError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

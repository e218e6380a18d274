"""What anyio's generic code may ask a stream or a listener about its socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from anyio.abc import SocketAttribute

Attributes: TypeAlias = Mapping[object, Callable[[], object]]
"""What each attribute gives when it is asked for. (anyio itself declares them with a type variable
that nothing binds, which no type can equal.)"""

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def both_ends(extra_info: Callable[[str], object]) -> Attributes:
    """The ``SocketAttribute``s of both ends; none once the socket is closed.

    The socket itself is not among them: reading from it would take what belongs to the channel.

    Args:
        extra_info: what the transport knows of its socket; None once that is closed.
    """
    sock = cast("socket.socket | None", extra_info("socket"))
    if sock is None:
        return {}
    remote = _end(
        sock.family,
        extra_info("peername"),
        SocketAttribute.remote_address,
        SocketAttribute.remote_port,
    )
    return {**local_attributes(sock.family, extra_info("sockname")), **remote}


def local_attributes(family: int, name: object) -> Attributes:
    """The ``SocketAttribute``s of a socket's own end."""
    end = _end(family, name, SocketAttribute.local_address, SocketAttribute.local_port)
    end[SocketAttribute.family] = lambda: socket.AddressFamily(family)
    return end


def _end(
    family: int, name: object, address: object, port: object
) -> dict[object, Callable[[], object]]:
    """Of one end, whose name is as the kernel gives it: IPv6 has two more numbers in it."""
    if family not in _INTERNET:
        return {address: lambda: name}
    if not name:  # the peer has gone
        return {}
    internet = cast("tuple[str, int]", name)
    return {address: lambda: internet[:2], port: lambda: internet[1]}

"""The attributes of a socket that anyio's generic code asks a stream or a listener for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from anyio.abc import SocketAttribute

Attributes: TypeAlias = Mapping[object, Callable[[], object]]
"""A function for each attribute that returns its value. (anyio itself declares this with an unbound
type variable, which no type can match.)"""

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def both_ends(extra_info: Callable[[str], object]) -> Attributes:
    """Return the ``SocketAttribute``s of both ends; none once the socket is closed.

    The socket itself is not among them: reading from it would take data that belongs to the
    channel.

    Args:
        extra_info: ``get_extra_info`` of the transport.
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
    """Return the ``SocketAttribute``s of a socket's local end."""
    end = _end(family, name, SocketAttribute.local_address, SocketAttribute.local_port)
    end[SocketAttribute.family] = lambda: socket.AddressFamily(family)
    return end


def _end(
    family: int, name: object, address: object, port: object
) -> dict[object, Callable[[], object]]:
    """Return the attributes of one end.

    Args:
        family: of the socket.
        name: as the kernel reports it. For IPv6 it has two more numbers, which anyio does not
            expect.
        address: the attribute for the address.
        port: the attribute for the port.
    """
    if family not in _INTERNET:
        return {address: lambda: name}
    if not name:  # the peer has disconnected
        return {}
    internet = cast("tuple[str, int]", name)
    return {address: lambda: internet[:2], port: lambda: internet[1]}

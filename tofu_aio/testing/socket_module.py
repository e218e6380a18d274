"""Creates simulated sockets, with the functions of the module ``socket``."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import TypeAlias, cast

from .ends import Name
from .fabric import Fabric
from .sockets import LOOPBACK, SimulatedSocket

Found: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Name]
"""One result of getaddrinfo."""


class Sockets:
    """The functions of the module ``socket`` that create sockets, for the sockets of one world."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> SimulatedSocket:
        """Create a socket."""
        return SimulatedSocket(self._fabric, family, kind, proto)

    def fromfd(self, fd: int, _family: int, _kind: int, _proto: int = 0) -> SimulatedSocket:
        """Create another descriptor for the same socket.

        Raises:
            OSError: the descriptor is closed, or not a simulated one.
        """
        return cast("SimulatedSocket", self._fabric.kernel.pollable_of(fd)).dup()

    def has_dualstack_ipv6(self) -> bool:
        """Return True: a listener on all addresses serves both IPv4 and IPv6."""
        return True

    def getaddrinfo(  # noqa: PLR0917 - as in the module socket
        self,
        host: str | None,
        port: int | str | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as in the module socket
        proto: int = 0,
        flags: int = 0,
    ) -> list[Found]:
        """Look up a name in the network's ``hosts``.

        Raises:
            socket.gaierror: there is no such name, or it has no address of this family.
        """
        del type, proto
        hosts: Sequence[str]
        if not host:
            hosts = ["0.0.0.0", "::"] if flags & socket.AI_PASSIVE else LOOPBACK  # noqa: S104
        elif host == "localhost":
            hosts = self._fabric.network.hosts.get(host, LOOPBACK[:1])
        else:
            hosts = self._fabric.network.hosts.get(host, [host])
        found = [_found(each, int(port or 0)) for each in hosts]
        answers = [answer for answer in found if answer and family in {0, answer[0]}]
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, f"no host {host!r} in the simulated network")
        return answers


def _found(host: str, port: int) -> Found | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    kind, proto = socket.SOCK_STREAM, socket.IPPROTO_TCP
    if address.version == 4:
        return socket.AF_INET, kind, proto, "", (str(address), port)
    return socket.AF_INET6, kind, proto, "", (str(address), port, 0, 0)

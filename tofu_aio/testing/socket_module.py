"""What makes simulated sockets: the functions of the module ``socket`` that make real ones."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import TypeAlias, cast

from .ends import Fabric, Name
from .sockets import LOOPBACK, SimulatedSocket

Found: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Name]
"""One answer of getaddrinfo."""


class Sockets:
    """The functions of the module ``socket`` that make sockets, for the sockets of one world."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> SimulatedSocket:
        """A new one."""
        return SimulatedSocket(self._fabric, family, kind, proto)

    def fromfd(self, fd: int, _family: int, _kind: int, _proto: int = 0) -> SimulatedSocket:
        """Another descriptor of the same.

        Raises:
            OSError: there is none of this number.
        """
        return cast("SimulatedSocket", self._fabric.kernel.behind(fd)).dup()

    def has_dualstack_ipv6(self) -> bool:
        """Whether one listener can serve both families: here each name is looked for in both."""
        return True

    def getaddrinfo(  # noqa: PLR0917 - as the module socket has it
        self,
        host: str | None,
        port: int | str | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as the module socket has it
        proto: int = 0,
        flags: int = 0,
    ) -> list[Found]:
        """The addresses of a name, which the network's ``hosts`` know.

        Raises:
            socket.gaierror: they do not, or not of this family.
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
            raise socket.gaierror(socket.EAI_NONAME, f"the simulated network knows no {host!r}")
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

"""Counting the connections from each address, if their number is limited."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address
from typing import Final

from ...protocol.address import Address, TcpAddress

_NETWORK: Final = 64
"""The bits of an IPv6 address that identify a network. A host can choose the other bits itself."""


class ConnectionCounts:
    """The number of connections to a listener from each address.

    Args:
        most: the maximum for one address. With None there is no limit, and nothing is counted.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def begin(self, address: Address | None) -> CountedConnection | None:
        """Count one more connection; None if its address has the maximum already.

        Args:
            address: of the peer.
        """
        if self._most is None or not isinstance(address, TcpAddress):
            return NOT_COUNTED
        host = host_of(address.host)
        if self._counts[host] >= self._most:
            return None
        return CountedConnection(self._counts, host)


class CountedConnection:
    """One connection, from accept(2) until its socket is closed."""

    __slots__ = ("_counts", "_host")

    def __init__(self, counts: Counter[str] | None, host: str) -> None:
        self._counts = counts
        self._host = host
        if counts is not None:
            counts[host] += 1

    def release(self) -> None:
        """Count it no more. Does nothing if called again."""
        counts, self._counts = self._counts, None
        if counts is not None:
            counts[self._host] -= 1
            if not counts[self._host]:
                del counts[self._host]


NOT_COUNTED: Final = CountedConnection(None, "")
"""Stands for every connection where there is no limit."""


def host_of(host: str) -> str:
    """Return the key that a host is counted under: the IPv4 address, or the IPv6 /64 network.

    All link-local addresses are in one such network, so for them it is the address with its scope.
    """
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.is_link_local or address.is_loopback:
        return host
    return f"{IPv6Address(int(address) >> _NETWORK << _NETWORK)}/{_NETWORK}"

"""How many connections each address has, where that is bounded."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address
from typing import Final

_NETWORK: Final = 64
"""Bits of an IPv6 address that tell hosts apart: of the others a host has as many as it likes."""


class ConnectionCounts:
    """The connections of a listener, counted by the address that they come from.

    Args:
        most: how many one address may have; None for any number, and none are counted.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def begin(self, name: object) -> CountedConnection | None:
        """Count one more; None if its address has as many as it may.

        Args:
            name: of the peer, as accept(2) tells it.
        """
        if self._most is None or not isinstance(name, tuple):
            return NOT_COUNTED
        host = host_of(name)
        if self._counts[host] >= self._most:
            return None
        return CountedConnection(self._counts, host)


class CountedConnection:
    """One connection, from its acceptance until its socket is gone."""

    __slots__ = ("_counts", "_host")

    def __init__(self, counts: Counter[str] | None, host: str) -> None:
        self._counts = counts
        self._host = host
        if counts is not None:
            counts[host] += 1

    def release(self) -> None:
        """Its socket is gone. Told again, it does nothing."""
        counts, self._counts = self._counts, None
        if counts is not None:
            counts[self._host] -= 1
            if not counts[self._host]:
                del counts[self._host]


NOT_COUNTED: Final = CountedConnection(None, "")
"""Any one where there is no bound."""


def host_of(name: tuple[object, ...]) -> str:
    """Whose connection it is: the IPv4 address, or the network of 64 bits of an IPv6 one.

    A link's own addresses are all in one such network: there it is the address, and its link.
    """
    host = str(name[0])
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local or address.is_loopback:
        return f"{address}%{name[3]}"
    return f"{IPv6Address(int(address) >> _NETWORK << _NETWORK)}/{_NETWORK}"

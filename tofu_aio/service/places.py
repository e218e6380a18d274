"""Where a service listens, with the options that apply there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from ..messaging.options import ListenOptions
from ..protocol.address import (
    Address,
    FdAddress,
    NatsAddress,
    TcpAddress,
    UdsAddress,
    parse_address,
)

_OTHERS: Final[dict[type, tuple[str, ...]]] = {
    TcpAddress: ("mode",),
    UdsAddress: ("ssl", "keepalive", "reuse_port", "max_connections_per_address"),
    FdAddress: ("mode", "reuse_port"),
    NatsAddress: ("ssl", "mode", "keepalive", "reuse_port", "max_connections_per_address"),
}
"""The options that do not apply to an address, and are meant for the others."""


def places_of(
    addresses: Sequence[str | Address], options: ListenOptions
) -> list[tuple[tuple[str | Address, ...], ListenOptions]]:
    """The arguments of ``listen`` for each address, and for the socket that was given.

    With several, an option for one kind of address goes to that kind only. An inherited descriptor
    may be of either kind.

    Raises:
        InvalidAddress: an address cannot be parsed.
    """
    if len(addresses) == 1 or not addresses:
        return [(tuple(addresses), options)]
    each: list[tuple[tuple[str | Address, ...], ListenOptions]] = []
    for address in addresses:
        others = _OTHERS.get(type(parse_address(address)), ())
        own = {name: value for name, value in options.items() if name not in others}
        each.append(((address,), cast("ListenOptions", own)))
    return each

"""The kinds of transport. The address alone selects one, here and nowhere else."""

from __future__ import annotations

import socket

from ..protocol.address import Address, TcpAddress, UdsAddress
from .tcp import TcpTransport
from .transport import Transport
from .unix import UdsTransport


def transport_to(address: Address) -> Transport:
    """Return the transport for an address."""
    match address:
        case TcpAddress():
            return TcpTransport(address)
        case UdsAddress():
            return UdsTransport(address)


async def connect(address: Address, keepalive: float | None = None) -> socket.socket:
    """Return a connected, non-blocking socket. See ``Transport.connect``."""
    return await transport_to(address).connect(keepalive)


async def listen(
    address: Address,
    keepalive: float | None = None,
    *,
    reuse_port: bool = False,
    mode: int | None = None,
) -> socket.socket:
    """Return a listening, non-blocking socket. See ``Transport.listen``."""
    return await transport_to(address).listen(keepalive, reuse_port=reuse_port, mode=mode)

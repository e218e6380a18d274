"""The kinds of transport. The address alone selects one, here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

from ..protocol.address import (
    Address,
    FdAddress,
    NatsAddress,
    TcpAddress,
    UdsAddress,
    parse_address,
)
from ..protocol.errors import WrongAddress
from .adopted import FdTransport, local_address
from .nats.transport import NatsTransport
from .socket_transport import SocketTransport
from .tcp import TcpTransport
from .transport import Acceptor, Transport
from .unix import UdsTransport


def transport_to(address: Address, context: ssl.SSLContext | None = None) -> Transport:
    """Return the transport for an address.

    Args:
        address: selects the transport.
        context: for TLS that does not end at the peer, but at a broker. For TLS to the peer see
            ``tls.py``.
    """
    match address:
        case TcpAddress():
            return TcpTransport(address)
        case UdsAddress():
            return UdsTransport(address)
        case FdAddress():
            return FdTransport(address)
        case NatsAddress():
            return NatsTransport(address, context)


async def connect(
    address: Address,
    protocol: asyncio.BaseProtocol,
    keepalive: float | None = None,
    context: ssl.SSLContext | None = None,
) -> Address | None:
    """Connect, and make an asyncio transport for a protocol. See ``Transport.connect``."""
    return await transport_to(address, context).connect(protocol, keepalive)


@contextlib.contextmanager
def listening_place(
    address: str | Address | None, sock: socket.socket | None
) -> Iterator[tuple[Address, socket.socket | None]]:
    """Return the address to listen on, and the socket that has it already, or None.

    If the block raises, the socket stays open, for whoever has made it.

    Args:
        address: None if there is a socket.
        sock: None if there is an address.

    Raises:
        TypeError: there are both, or neither; or the socket is not one.
        InvalidAddress, ListenFailed, WrongAddress: nothing can listen there.
    """
    if (address is None) is (sock is None):
        both = "not both" if sock is not None else "one of them"
        raise TypeError(f"listening needs an address or sock=, a bound socket: give {both}")
    if sock is not None or address is None:
        assert sock is not None
        yield local_address(sock), sock
        return
    where = parse_address(address)
    transport = transport_to(where)
    if not isinstance(transport, FdTransport):
        yield where, None
        return
    inherited = transport.inherited()
    try:
        yield local_address(inherited), inherited
    except BaseException:
        inherited.detach()
        raise


async def listen(
    address: Address,
    keepalive: float | None = None,
    *,
    reuse_port: bool = False,
    mode: int | None = None,
    sock: socket.socket | None = None,
    context: ssl.SSLContext | None = None,
) -> Acceptor:
    """Listen, and return the acceptor. See ``Transport.listen``.

    Args:
        address: to listen on.
        keepalive: see ``Transport.listen``.
        reuse_port: see ``Transport.listen``.
        mode: see ``Transport.listen``.
        sock: a socket that is bound to the address, to be used instead of a new one.
        context: see ``transport_to``.

    Raises:
        WrongAddress: ``reuse_port`` or ``mode`` is given for a socket that is bound already.
    """
    transport = transport_to(address, context)
    if sock is None:
        return await transport.listen(keepalive, reuse_port=reuse_port, mode=mode)
    if reuse_port or mode is not None:
        name = "reuse_port" if reuse_port else "mode"
        raise WrongAddress(
            f"{address}: {name} comes too late for a socket that is bound already: set it "
            "where the socket is made"
        )
    assert isinstance(transport, SocketTransport)  # for the address is that of the socket
    return transport.listen_on(sock, address, keepalive)

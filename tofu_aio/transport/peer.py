"""Who is at the other end of a channel, as far as the system can tell."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple, TypeAlias, TypedDict, cast

from ..protocol.address import Address, TcpAddress, UdsAddress
from ..protocol.errors import InvalidAddress

_UCRED: Final = struct.Struct("3i")
"""Linux' struct ucred: pid, uid, gid (unix(7))."""

_XUCRED: Final = struct.Struct("IIh2xI")
"""The start of BSD's struct xucred: version, uid, number of groups, the first of them, which is
the effective one (sys/ucred.h). Behind it are fifteen more groups."""

_XUCRED_SIZE: Final = _XUCRED.size + 15 * 4
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_LOCAL_PEERPID: Final = 2
_IS_MACOS: Final[bool] = sys.platform == "darwin"

DistinguishedName: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]


class Certificate(TypedDict, total=False):
    """A certificate as ``ssl.SSLObject.getpeercert`` tells it."""

    subject: DistinguishedName
    issuer: DistinguishedName
    version: int
    serialNumber: str
    notBefore: str
    notAfter: str
    subjectAltName: tuple[tuple[str, str], ...]
    OCSP: tuple[str, ...]
    caIssuers: tuple[str, ...]
    crlDistributionPoints: tuple[str, ...]


CERTIFICATES: Final = "tofu_certificates"
"""Asks a transport for what it knows of the peer's certificate; None without TLS."""


class Certificates(NamedTuple):
    """A peer's certificate in both its forms, each as ``Peer`` has it."""

    verified: Certificate | None
    der: bytes | None


NO_CERTIFICATES: Final = Certificates(None, None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The process at the other end of a Unix socket, as the kernel vouches for it.

    They are those of the moment at which it connected, or listened.

    Attributes:
        pid: of the process; None where the system does not tell.
        uid: its effective user.
        gid: its effective group.
    """

    pid: int | None
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a channel.

    Attributes:
        address: of the peer's socket; None for a Unix socket without a name, which is what who
            connects has.
        credentials: of the process, over a Unix socket on Linux, macOS and the BSDs; else None.
        certificate: the peer's, verified; None without TLS, without one, or where the context
            does not verify.
        certificate_der: the same in DER; also what was not verified, to compare it with a known
            one, say.
    """

    address: Address | None
    credentials: Credentials | None
    certificate: Certificate | None
    certificate_der: bytes | None


def peer_of(transport: asyncio.Transport | None, address: Address | None) -> Peer:
    """What can be told of the peer of a connected transport, whose address is known."""
    if transport is None:
        return Peer(address, None, None, None)
    found = transport.get_extra_info(CERTIFICATES)
    if isinstance(address, TcpAddress):  # who comes over the network has no credentials
        if found is None:
            return _over_tcp(address)
        sock = None
    else:
        sock = transport.get_extra_info("socket")
    certificates = found if isinstance(found, Certificates) else NO_CERTIFICATES
    return Peer(address, _credentials(sock), *certificates)


@lru_cache(maxsize=16)
def _over_tcp(address: TcpAddress) -> Peer:
    """A peer without TLS. All channels of a client to one listener share it."""
    return Peer(address, None, None, None)


def certificates_of(handshaken: ssl.SSLObject) -> Certificates:
    """What the peer has shown. Right after the handshake: an SSLObject that has failed has none.

    Raises:
        ValueError, ssl.SSLError: what it has shown cannot be read. The checks of a handshake let
            some of that pass.
    """
    return Certificates(
        cast("Certificate", handshaken.getpeercert() or None),
        handshaken.getpeercert(binary_form=True),
    )


@lru_cache(maxsize=64)
def _one_text(host: str) -> str:
    """The same text for all connections of a host: a proxy has many."""
    return host


@lru_cache(maxsize=16)
def address_of(name: object) -> Address | None:
    """What accept(2) and getpeername(2) tell of a peer; None for a socket without a name."""
    with contextlib.suppress(InvalidAddress):  # a path that no header could carry
        match name:
            case (str(host), int(port)):
                return TcpAddress(_one_text(host), port)
            case (str(host), int(port), int(), int(scope)):
                return TcpAddress(_ipv6(host, scope), port)
            case str(path) if path:
                return UdsAddress(path)
            case bytes(path) if path[:1] == b"\0":
                return UdsAddress("@" + path[1:].decode("utf-8", "surrogateescape"))
    return None


def _ipv6(host: str, scope: int) -> str:
    """An IPv4 peer of a listener for both is an IPv4 peer; a link's address needs its link."""
    with contextlib.suppress(AddressValueError):
        mapped = IPv6Address(host).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return f"{host}%{scope}" if scope and "%" not in host else host


def _credentials(sock: socket.socket | None) -> Credentials | None:
    if sock is None or sock.family in {socket.AF_INET, socket.AF_INET6}:
        return None
    with contextlib.suppress(OSError, struct.error):
        option: int | None = getattr(socket, "SO_PEERCRED", None)
        if option is None:
            return _bsd_credentials(sock)
        return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _UCRED.size)))
    return None


def _bsd_credentials(sock: socket.socket) -> Credentials:
    found = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE)
    _, uid, _, gid = _XUCRED.unpack_from(found)
    return Credentials(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID) if _IS_MACOS else None, uid, gid)

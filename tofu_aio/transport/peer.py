"""The identity of a channel's peer, as far as the system and TLS know it."""

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
"""The start of BSD's struct xucred (sys/ucred.h): version, uid, number of groups, and the first
group, which is the effective one. Fifteen more groups follow."""

_XUCRED_SIZE: Final = _XUCRED.size + 15 * 4
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_LOCAL_PEERPID: Final = 2
_IS_MACOS: Final[bool] = sys.platform == "darwin"

DistinguishedName: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]


class Certificate(TypedDict, total=False):
    """A certificate as ``ssl.SSLObject.getpeercert`` returns it."""

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
"""The name of the extra info with the peer's ``Certificates``; None without TLS."""


class Certificates(NamedTuple):
    """A peer's certificate in both forms; see ``Peer``."""

    verified: Certificate | None
    der: bytes | None


NO_CERTIFICATES: Final = Certificates(None, None)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The process at the other end of a Unix socket, as the kernel reports it.

    They are the credentials that the process had when it connected or began to listen.

    Attributes:
        pid: the process id; None where the system does not report it.
        uid: the effective user id.
        gid: the effective group id.
    """

    pid: int | None
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a channel.

    Attributes:
        address: the address of the peer's socket. None for a Unix socket without a name; the
            connecting side of a Unix connection has none.
        credentials: of the peer's process, over a Unix socket on Linux, macOS and the BSDs;
            otherwise None.
        certificate: the peer's certificate, if it was verified. None without TLS, if the peer sent
            no certificate, or if the context does not verify certificates.
        certificate_der: the same certificate in DER. It is here even if it was not verified, for
            example to compare it with a known certificate.
    """

    address: Address | None
    credentials: Credentials | None
    certificate: Certificate | None
    certificate_der: bytes | None


def peer_of(transport: asyncio.Transport | None, address: Address | None) -> Peer:
    """Describe the peer of a connected transport.

    Args:
        transport: None if there is no connection (any more).
        address: of the peer.
    """
    if transport is None:
        return Peer(address, None, None, None)
    found = transport.get_extra_info(CERTIFICATES)
    if isinstance(address, TcpAddress):  # there are no credentials over a network
        if found is None:
            return _over_tcp(address)
        sock = None
    else:
        sock = transport.get_extra_info("socket")
    certificates = found if isinstance(found, Certificates) else NO_CERTIFICATES
    return Peer(address, _credentials(sock), *certificates)


@lru_cache(maxsize=16)
def _over_tcp(address: TcpAddress) -> Peer:
    """Return a peer without TLS. All channels of a client to one listener share the object."""
    return Peer(address, None, None, None)


def certificates_of(handshaken: ssl.SSLObject) -> Certificates:
    """Return the peer's certificate in both forms.

    To be called right after the handshake: an SSLObject that has failed since returns none.

    Raises:
        ValueError, ssl.SSLError: the certificate cannot be parsed. A handshake accepts some
            certificates that are not well-formed.
    """
    return Certificates(
        cast("Certificate", handshaken.getpeercert() or None),
        handshaken.getpeercert(binary_form=True),
    )


@lru_cache(maxsize=64)
def _one_text(host: str) -> str:
    """Share one string between all connections of a host: a proxy has many."""
    return host


@lru_cache(maxsize=16)
def address_of(name: object) -> Address | None:
    """Parse a peer's name from accept(2) or getpeername(2); None for a socket without a name."""
    with contextlib.suppress(InvalidAddress):  # a path that does not fit in a header
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
    """Return an IPv4-mapped address as IPv4, and a link-local one with its scope.

    A listener for both families sees IPv4 peers as IPv4-mapped addresses, and a link-local address
    is useless without its link.
    """
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

"""Sockets that connect and that listen, with every failure named for a person."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias, cast

from ..protocol.address import ANY_HOST, Address, TcpAddress, UdsAddress
from ..protocol.errors import (
    ConnectFailed,
    InvalidAddress,
    ListenFailed,
    UdsPathNotFound,
    WrongAddress,
)
from .limits import LISTEN_BACKLOG, UNIX_BACKLOG_RETRY

UDS_PATH_LIMIT: Final = 108 if sys.platform in {"linux", "win32"} else 104
"""Bytes of ``sun_path``, the closing NUL of a path included (unix(7); afunix.h; sys/un.h)."""

_HAS_ABSTRACT: Final[bool] = sys.platform == "linux"

SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
_Resolved: TypeAlias = tuple[socket.AddressFamily, SocketName]

_CURES: Final = {
    errno.ECONNREFUSED: "nobody is listening there: start the listener first",
    errno.EADDRINUSE: "the address is in use: stop its user, or take another (port 0 finds one)",
    errno.EADDRNOTAVAIL: "the host is not an address of this machine",
    errno.EACCES: "permission denied: ports below 1024 and other users' folders need rights",
    errno.EPERM: "permission denied",
    errno.ENOENT: "the folder of the socket does not exist: create it first",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EROFS: "the file system is read-only",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EHOSTUNREACH: "the host is unreachable",
    errno.EMFILE: "this process has too many open files: raise `ulimit -n`",
    errno.EPROTOTYPE: "the socket at that path is not a stream socket",
}


async def connect(address: Address) -> socket.socket:
    """A connected, non-blocking socket.

    Tries each address of a host in turn. The caller bounds the time.

    Raises:
        ConnectFailed, InvalidAddress, UdsPathNotFound, WrongAddress: what went wrong, and a cure.
    """
    if isinstance(address, UdsAddress):
        return await _connect_uds(address)
    if address.host == ANY_HOST or address.port == 0:
        raise WrongAddress(f"{address} is for listening: connecting needs a host and a port")
    failure: OSError | None = None
    for family, name in await _resolve(address):
        try:
            sock = _tcp_socket(family)  # fails where the system has no IPv6, say
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, name)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            failure = error
        else:
            return sock
    assert failure is not None
    raise ConnectFailed(f"cannot connect to {address}: {_explain(failure)}") from failure


async def listen(address: Address) -> socket.socket:
    """A listening, non-blocking socket.

    A socket file that nobody listens on is replaced; anything else at the path is left alone.

    Raises:
        InvalidAddress, ListenFailed, WrongAddress: what went wrong, and a cure.
    """
    if isinstance(address, UdsAddress):
        return _listen_uds(address)
    family, name = (
        _any_address(address.port) if address.host == ANY_HOST else (await _resolve(address))[0]
    )
    options = []
    if sys.platform != "win32":
        # Port in TIME_WAIT: fine. On Windows the option would steal a live port instead.
        options.append((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    if family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != ANY_HOST))
    try:
        return _start(_tcp_socket(family), name, options)
    except OSError as error:
        raise ListenFailed(f"cannot listen on {address}: {_explain(error)}") from error


def local_address(sock: socket.socket, asked: Address) -> Address:
    """Where a listening socket really is: with the port that the system chose."""
    if isinstance(asked, UdsAddress):
        return asked
    return TcpAddress(asked.host, sock.getsockname()[1])


def remove_file(address: Address, identity: os.stat_result | None) -> None:
    """Remove the file of a Unix socket that was closed, if it is still its own."""
    if isinstance(address, UdsAddress) and identity is not None:
        _unlink_if_same(address.path, identity)


def file_identity(address: Address) -> os.stat_result | None:
    """What tells the file of a Unix socket that was just bound from a later one at its path."""
    if isinstance(address, UdsAddress) and not address.abstract:
        return os.lstat(address.path)
    return None


async def _resolve(address: TcpAddress) -> list[_Resolved]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidAddress(
            f"{address.host!r} has no address ({reason}): check the name"
        ) from error
    # The stubs allow for a raw address of an unknown family, which this query cannot bring.
    return [(family, cast("SocketName", name)) for family, _, _, _, name in found]


def _any_address(port: int) -> _Resolved:
    if socket.has_dualstack_ipv6():
        return socket.AF_INET6, ("::", port)
    return socket.AF_INET, ("0.0.0.0", port)  # noqa: S104 - what "*" asks for


def _start(
    sock: socket.socket, name: SocketName, options: Iterable[tuple[int, int, int]] = ()
) -> socket.socket:
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        sock.bind(name)
        sock.listen(LISTEN_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _tcp_socket(family: socket.AddressFamily) -> socket.socket:
    # By name, for asyncio sets TCP_NODELAY only where it reads the protocol's number, and on an
    # accepted socket that is the listener's. Without it a small message waits for a delayed ACK.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


async def _connect_uds(address: UdsAddress) -> socket.socket:
    name = _uds_name(address)
    while True:
        try:
            return _connected_uds(name)
        except BlockingIOError:
            await asyncio.sleep(UNIX_BACKLOG_RETRY)
        except FileNotFoundError as error:
            raise UdsPathNotFound(
                f"there is no socket at {address}: start the listener first, or check the path"
            ) from error
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {address}: {_explain(error)}") from error


def _connected_uds(name: str) -> socket.socket:
    sock = _uds_socket()
    try:
        # Never "in progress": it succeeds or fails at once. asyncio's sock_connect takes EAGAIN
        # for EINPROGRESS and calls a full backlog a connection.
        sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_uds(address: UdsAddress) -> socket.socket:
    name = _uds_name(address)
    try:
        if not address.abstract:
            _remove_stale(address)
        return _start(_uds_socket(), name)
    except ListenFailed:
        raise  # an OSError too, and explained already
    except OSError as error:
        raise ListenFailed(f"cannot listen on {address}: {_explain(error)}") from error


def _uds_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise WrongAddress("this Python has no Unix sockets on this system: use tcp://host:port")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def _uds_name(address: UdsAddress) -> str:
    """The name for the kernel, if it fits: the kernel's own error would not say the limit."""
    if address.abstract:
        if not _HAS_ABSTRACT:
            raise WrongAddress(f"{address}: only Linux has abstract names: use uds:///path")
        name, size = "\0" + address.path[1:], len(os.fsencode(address.path))
    else:
        name, size = address.path, len(os.fsencode(address.path)) + 1
    if size > UDS_PATH_LIMIT:
        raise InvalidAddress(
            f"{address} has {size} bytes and a socket's path may have {UDS_PATH_LIMIT} here: "
            "choose a shorter one"
        )
    return name


def _remove_stale(address: UdsAddress) -> None:
    """Remove a socket file that nobody listens on.

    Raises:
        ListenFailed: it is alive, or not a socket.
        OSError: the system does not let us look or remove.
    """
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenFailed(
            f"cannot listen on {address}: what is there is not a socket, and is left alone: "
            "choose another path or remove it"
        )
    with _uds_socket() as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            _unlink_if_same(address.path, found)
            return
        except BlockingIOError:
            pass  # a full backlog: it is alive
    raise ListenFailed(f"cannot listen on {address}: {_CURES[errno.EADDRINUSE]}")


def _unlink_if_same(path: str, identity: os.stat_result) -> None:
    """Remove the file unless another has taken its place since it was looked at."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), identity):
            Path(path).unlink()


def _explain(error: OSError) -> str:
    return _CURES.get(error.errno or 0) or error.strerror or str(error)

"""What went wrong with a socket, for people, and what helps."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from ..protocol.address import Address, TcpAddress
from ..protocol.errors import ConnectFailed, ListenFailed, UdsPathNotFound
from .happy_eyeballs import Place

_Failed = TypeVar("_Failed", ConnectFailed, ListenFailed, UdsPathNotFound)

ADDRESS_IN_USE: Final = "the address is in use: stop its user, or take another (port 0 finds one)"

_CURES: Final = {
    errno.ECONNREFUSED: "nobody is listening there: start the listener first",
    errno.EADDRINUSE: ADDRESS_IN_USE,
    errno.EADDRNOTAVAIL: "the host is not an address of this machine",
    errno.EACCES: "permission denied: ports below 1024 and other users' folders need rights",
    errno.EPERM: "permission denied",
    errno.ENOENT: "the folder of the socket does not exist: create it first",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EROFS: "the file system is read-only",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EHOSTUNREACH: "the host is unreachable",
    errno.EMFILE: "this process has no file descriptor left: close some, or raise `ulimit -n`",
    errno.ENFILE: "this system has no file descriptor left: close some, or raise its limit",
    errno.ENOBUFS: "the system has no memory left for sockets",
    errno.ENOMEM: "the system has no memory left for sockets",
    errno.EPROTOTYPE: "the socket at that path is not a stream socket",
}

_CONNECTING_CURES: Final = {
    **_CURES,
    errno.EADDRNOTAVAIL: "this machine has no address, or no free port, to connect from",
    errno.EADDRINUSE: "this machine has no free port to connect from",
}


def failure(kind: type[_Failed], text: str, errors: Sequence[OSError]) -> _Failed:
    """What to raise for errors of the system's, with their number if they have one in common."""
    failed = kind(text)
    numbers = {None if isinstance(error, socket.gaierror) else error.errno for error in errors}
    if len(numbers) == 1:
        (failed.errno,) = numbers
    return failed


def cannot_listen(address: Address, error: OSError) -> ListenFailed:
    """What to raise for an error of the system's, as ``failure``."""
    return failure(ListenFailed, f"cannot listen on {address}: {explain(error)}", [error])


def unresolved(address: TcpAddress, error: OSError) -> str:
    """Why the host's addresses are not known."""
    if isinstance(error, socket.gaierror):
        return f"{address.host!r} has no address ({error.strerror}): check the name"
    return f"cannot look {address.host!r} up: {explain(error)}"


def explain(error: OSError, cures: Mapping[int, str] = _CURES) -> str:
    """An error of the system's for people: with a cure, if there is one."""
    return cures.get(error.errno or 0) or error.strerror or str(error)


def explain_all(failures: Sequence[tuple[Place, OSError]]) -> str:
    """What went wrong; with each address that it went wrong with, if there are several."""
    explained: dict[str, list[str]] = {}
    for (_, name), error in failures:
        explained.setdefault(explain(error, _CONNECTING_CURES), []).append(str(name[0]))
    if len(failures) == 1:
        return next(iter(explained))
    return "; ".join(f"{', '.join(hosts)}: {text}" for text, hosts in explained.items())

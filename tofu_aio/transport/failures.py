"""Error messages for failed socket calls: what went wrong, and what to do about it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from ..protocol.address import Address, TcpAddress
from ..protocol.errors import ConnectFailed, ListenFailed, UdsPathNotFound
from .happy_eyeballs import Endpoint

_Failed = TypeVar("_Failed", ConnectFailed, ListenFailed, UdsPathNotFound)

ADDRESS_IN_USE: Final = (
    "the address is in use: stop the program that uses it, or choose another address (for TCP, "
    "with port 0 the system chooses a free port)"
)

_EXPLANATIONS: Final = {
    errno.ECONNREFUSED: "nobody is listening there: start the listener first",
    errno.EADDRINUSE: ADDRESS_IN_USE,
    errno.EADDRNOTAVAIL: "the host is not an address of this machine: use one, or * for all",
    errno.EACCES: "permission denied: choose a port above 1023, or a folder that you may write to",
    errno.EPERM: "permission denied",
    errno.ENOENT: "the folder of the socket does not exist: create it first",
    errno.ENOTDIR: "a part of the path is not a folder: check the path",
    errno.EROFS: "the file system is read-only: choose another path",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EHOSTUNREACH: "the host is unreachable",
    errno.EMFILE: "this process has no file descriptor left: close some, or raise `ulimit -n`",
    errno.ENFILE: "this system has no file descriptor left: close some, or raise its limit",
    errno.ENOBUFS: "the system has no memory left for sockets",
    errno.ENOMEM: "the system has no memory left for sockets",
    errno.EPROTOTYPE: "the socket at that path is not a stream socket",
}

_CONNECTING_EXPLANATIONS: Final = {
    **_EXPLANATIONS,
    errno.EADDRNOTAVAIL: "this machine has no address, or no free port, to connect from",
    errno.EADDRINUSE: "this machine has no free port to connect from",
}


def failure(kind: type[_Failed], text: str, errors: Sequence[OSError]) -> _Failed:
    """Make an exception for system errors; its ``errno`` is theirs if they all have the same."""
    failed = kind(text)
    numbers = {None if isinstance(error, socket.gaierror) else error.errno for error in errors}
    if len(numbers) == 1:
        (failed.errno,) = numbers
    return failed


def cannot_listen(address: Address, error: OSError) -> ListenFailed:
    """Make the exception for a system error that prevents listening. See ``failure``."""
    return failure(ListenFailed, f"cannot listen on {address}: {explain(error)}", [error])


def unresolved(address: TcpAddress, error: OSError) -> str:
    """Explain why the addresses of a host could not be looked up."""
    if isinstance(error, socket.gaierror):
        return f"{address.host!r} has no address ({error.strerror}): check the name"
    return f"cannot look up {address.host!r}: {explain(error)}"


def explain(error: OSError, explanations: Mapping[int, str] = _EXPLANATIONS) -> str:
    """Explain a system error, with advice where there is some."""
    return explanations.get(error.errno or 0) or error.strerror or str(error)


def explain_all(failures: Sequence[tuple[Endpoint, OSError]]) -> str:
    """Explain the errors of all attempts, with the addresses that each one concerns.

    A single attempt needs no address: the whole message names it already.
    """
    explained: dict[str, list[str]] = {}
    for (_, name), error in failures:
        explained.setdefault(explain(error, _CONNECTING_EXPLANATIONS), []).append(str(name[0]))
    if len(failures) == 1:
        return next(iter(explained))
    return "; ".join(f"{', '.join(hosts)}: {text}" for text, hosts in explained.items())

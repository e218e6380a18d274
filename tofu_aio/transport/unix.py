"""Unix sockets, at a path in the file system or, on Linux, with an abstract name."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from typing import Final

from ..protocol.address import Address, UdsAddress
from ..protocol.errors import (
    ConnectFailed,
    InvalidAddress,
    ListenFailed,
    UdsPathNotFound,
    WrongAddress,
)
from . import stand_ins
from .failures import ADDRESS_IN_USE, cannot_listen, explain, failure
from .limits import CHURN_PAUSES, UNIX_BACKLOG_RETRY
from .socket_file import checked_mode, locked_path, remove_if_same, removed_on_failure, set_mode
from .socket_module import (
    closed_on_failure,
    listen_on,
    note_copies,
    socket_module,
    start_listening,
)
from .socket_options import Option, keepalive_options
from .socket_transport import SocketTransport

UDS_PATH_LIMIT: Final = 108 if sys.platform in {"linux", "win32"} else 104
"""Bytes of ``sun_path``, including the NUL after a path (unix(7); afunix.h; sys/un.h)."""

_HAS_ABSTRACT: Final[bool] = sys.platform == "linux"


class UdsTransport(SocketTransport):
    """Connects to a Unix socket, or listens on one. See ``SocketTransport``.

    Args:
        address: of a listener.
    """

    networked = False
    has_hosts = False

    def __init__(self, address: UdsAddress) -> None:
        self._address = address

    async def dial(self, keepalive: float | None) -> socket.socket:
        """Connect. If the listener's backlog is full, wait for room in it."""
        keepalive_options(keepalive)
        address = self._address
        name = _uds_name(address)
        while True:
            try:
                return _connected_uds(name)
            except BlockingIOError:
                await asyncio.sleep(UNIX_BACKLOG_RETRY)
            except FileNotFoundError as error:
                text = (
                    f"there is no socket at {address}: start the listener first, or check the path"
                )
                raise failure(UdsPathNotFound, text, [error]) from error
            except OSError as error:
                text = f"cannot connect to {address}: {explain(error)}"
                raise failure(ConnectFailed, text, [error]) from error

    async def bind(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> socket.socket:
        """Listen. A stale socket file at the path is replaced, and any other file is left alone."""
        address = self._address
        if mode is not None:
            checked_mode(mode, address)
        keepalive_options(keepalive)
        if reuse_port:
            raise WrongAddress(f"{address}: reuse_port is for TCP ports only: leave it out")
        pauses = iter(CHURN_PAUSES)
        while True:
            try:
                return _listening_uds(address, mode)
            except ListenFailed:
                raise  # it is an OSError as well, and already has its explanation
            except BlockingIOError as error:
                pause = next(pauses, None)
                if pause is None:
                    text = "another process is about to listen there: try again in a moment"
                    raise failure(
                        ListenFailed, f"cannot listen on {address}: {text}", [error]
                    ) from error
            except OSError as error:
                raise cannot_listen(address, error) from error
            await asyncio.sleep(pause)

    def options(self, keepalive: float | None) -> list[Option]:
        """Return none: the kernel reports the end of the peer."""
        keepalive_options(keepalive)
        return []

    async def attach(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
    ) -> asyncio.BaseTransport:
        """Make an asyncio transport of a connected socket."""
        transport, _ = await loop.create_unix_connection(lambda: protocol, sock=sock)
        return transport

    def bound(self, _: socket.socket) -> Address:
        """Return the address as it was given."""
        return self._address


def _connected_uds(name: str) -> socket.socket:
    sock = _uds_socket()
    note_copies(sock, stand_ins.connecting)
    with closed_on_failure(sock):
        # connect(2) succeeds or fails at once here; it is never in progress. asyncio's
        # sock_connect would treat EAGAIN, a full backlog, like EINPROGRESS, and report a
        # connection that does not exist.
        sock.connect(name)
    return sock


def _listening_uds(address: UdsAddress, mode: int | None) -> socket.socket:
    name = _uds_name(address)
    sock = _uds_socket()  # first, because it raises if there are no Unix sockets at all
    if address.abstract:
        return start_listening(sock, name)
    with closed_on_failure(sock), locked_path(address):
        _remove_stale(address)
        sock.bind(name)
        with removed_on_failure(name):
            if mode is not None:
                set_mode(name, mode)
            listen_on(sock)
    return sock


def _uds_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise WrongAddress("this Python has no Unix sockets on this system: use tcp://host:port")
    sock = socket_module().socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def _uds_name(address: UdsAddress) -> str:
    """Return the address for the kernel. Check its length: the system's error names no limit."""
    if address.abstract:
        if not _HAS_ABSTRACT:
            raise WrongAddress(f"{address}: only Linux has abstract names: use uds:///path")
        name, size = "\0" + address.path[1:], len(os.fsencode(address.path))
    else:
        name, size = address.path, len(os.fsencode(address.path)) + 1
    if size > UDS_PATH_LIMIT:
        raise InvalidAddress(
            f"{address} has {size} bytes, but a socket's path may have at most {UDS_PATH_LIMIT} "
            "here: choose a shorter one"
        )
    return name


def _remove_stale(address: UdsAddress) -> None:
    """Remove a socket file that nothing listens on. The caller holds the lock of its path.

    Raises:
        ListenFailed: another listener uses it, or it is not a socket.
        OSError: the system refuses to examine or remove it.
    """
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenFailed(
            f"cannot listen on {address}: the file there is not a socket, and is left alone: "
            "choose another path or remove it"
        )
    with _uds_socket() as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            remove_if_same(address.path, found)
            return
        except BlockingIOError:
            pass  # the backlog is full, so a listener exists
    raise ListenFailed(f"cannot listen on {address}: {ADDRESS_IN_USE}")

"""Unix sockets, which have a file or, on Linux, an abstract name."""

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
from .socket_file import alone_at, checked_mode, remove_if_same, removed_on_failure, set_mode
from .socket_module import (
    closed_on_failure,
    listen_on,
    note_copies,
    socket_module,
    start_listening,
)
from .socket_options import keepalive_options
from .transport import Transport

UDS_PATH_LIMIT: Final = 108 if sys.platform in {"linux", "win32"} else 104
"""Bytes of ``sun_path``, the closing NUL of a path included (unix(7); afunix.h; sys/un.h)."""

_HAS_ABSTRACT: Final[bool] = sys.platform == "linux"


class UdsTransport(Transport):
    """Connects to a Unix socket, or listens on one. See ``Transport``.

    Args:
        address: of a listener.
    """

    networked = False

    def __init__(self, address: UdsAddress) -> None:
        self._address = address

    async def connect(self, keepalive: float | None) -> socket.socket:
        """Connect, as soon as the listener's backlog has room."""
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

    async def listen(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> socket.socket:
        """Listen; a file that nobody listens on is replaced, anything else there is left alone."""
        address = self._address
        if mode is not None:
            checked_mode(mode, address)
        keepalive_options(keepalive)
        if reuse_port:
            raise WrongAddress(f"{address}: only TCP ports can be shared, by reuse_port")
        pauses = iter(CHURN_PAUSES)
        while True:
            try:
                return _listening_uds(address, mode)
            except ListenFailed:
                raise  # an OSError too, and explained already
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

    async def attach(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
    ) -> None:
        """Make an asyncio transport of a connected socket."""
        await loop.create_unix_connection(lambda: protocol, sock=sock)

    def bound(self, _: socket.socket) -> Address:
        """The address as it was given."""
        return self._address


def _connected_uds(name: str) -> socket.socket:
    sock = _uds_socket()
    note_copies(sock, stand_ins.connecting)
    with closed_on_failure(sock):
        # Never "in progress": it succeeds or fails at once. asyncio's sock_connect takes EAGAIN
        # for EINPROGRESS and calls a full backlog a connection.
        sock.connect(name)
    return sock


def _listening_uds(address: UdsAddress, mode: int | None) -> socket.socket:
    name = _uds_name(address)
    sock = _uds_socket()  # first: where there are none, nothing else would do either
    if address.abstract:
        return start_listening(sock, name)
    with closed_on_failure(sock), alone_at(address):
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
    """Remove a socket file that nobody listens on. For who is alone at its path.

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
            remove_if_same(address.path, found)
            return
        except BlockingIOError:
            pass  # a full backlog: it is alive
    raise ListenFailed(f"cannot listen on {address}: {ADDRESS_IN_USE}")

"""Sockets that connect and that listen, with every failure named for a person."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeAlias, cast
from weakref import WeakSet

from ..checks import checked_seconds
from ..messaging.limits import (
    CHURN_PAUSES,
    KEEPALIVE_MAX,
    KEEPALIVE_MIN,
    KEEPALIVE_PROBES,
    LISTEN_BACKLOG,
    UNIX_BACKLOG_RETRY,
)
from ..protocol.address import ANY_HOST, Address, TcpAddress, UdsAddress
from ..protocol.errors import (
    ConnectFailed,
    InvalidAddress,
    ListenFailed,
    UdsPathNotFound,
    WrongAddress,
)
from . import stand_ins
from .failures import ADDRESS_IN_USE, cannot_listen, explain, explain_all, failure, unresolved
from .happy_eyeballs import NoneConnected, Place, SocketName, first_connected
from .resolving import resolve
from .socket_file import alone_at, checked_mode, remove_if_same, removed_on_failure, set_mode
from .windows import usual_errno

UDS_PATH_LIMIT: Final = 108 if sys.platform in {"linux", "win32"} else 104
"""Bytes of ``sun_path``, the closing NUL of a path included (unix(7); afunix.h; sys/un.h)."""

_HAS_ABSTRACT: Final[bool] = sys.platform == "linux"

_Option: TypeAlias = tuple[int, int, int]


class SocketModule(Protocol):
    """The functions of the module ``socket`` that make sockets, or look for where they could be."""

    def has_dualstack_ipv6(self) -> bool:
        """Whether one listener can serve both families."""

    def fromfd(self, fd: int, family: int, kind: int, /) -> socket.socket:
        """Another descriptor of the same one."""

    def socket(self, family: int, kind: int, proto: int = ..., /) -> socket.socket:
        """A new one."""


def socket_module() -> SocketModule:
    """What makes sockets for the running loop: the module ``socket``.

    Or the loop's own ``socket_module``: a loop that brings its own network, a simulated one, has
    sockets of its own as well, and everything else asks only the loop about them.
    """
    return cast("SocketModule", getattr(asyncio.get_running_loop(), "socket_module", socket))


_CHURN: Final = {errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ECONNABORTED}
"""What comes of many connections that come and go, and passes: no port is free to connect from, or
a port is still in use by what was just closed."""


async def connect(address: Address, keepalive: float | None = None) -> socket.socket:
    """A connected, non-blocking socket.

    Tries each address of a host, the next one while the last still hesitates. The caller bounds
    the time.

    Args:
        address: of a listener.
        keepalive: seconds of silence after which the kernel asks whether the peer is there.

    Raises:
        TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds.
        ConnectFailed, InvalidAddress, UdsPathNotFound, WrongAddress: what went wrong, and a cure.
    """
    options = _keepalive_options(keepalive)
    if isinstance(address, UdsAddress):
        return await _connect_uds(address)
    if address.host == ANY_HOST or address.port == 0:
        raise WrongAddress(f"{address} is for listening: connecting needs a host and a port")

    async def attempt(place: Place) -> socket.socket:
        return await _connected_tcp(place, options)

    pauses = iter(CHURN_PAUSES)
    try:
        places = await _resolve(address)
    except OSError as error:
        raise failure(ConnectFailed, unresolved(address, error), [error]) from error
    while True:
        try:
            return await first_connected(places, attempt)
        except NoneConnected as none:
            errors = [error for _, error in none.failures]
            pause = next(pauses, None)
            if pause is None or _CHURN.isdisjoint(error.errno for error in errors):
                text = f"cannot connect to {address}: {explain_all(none.failures)}"
                cause = ExceptionGroup("no address connected", errors)
                raise failure(ConnectFailed, text, errors) from (cause if errors[1:] else errors[0])
        await asyncio.sleep(pause)


async def listen(
    address: Address,
    keepalive: float | None = None,
    *,
    reuse_port: bool = False,
    mode: int | None = None,
) -> socket.socket:
    """A listening, non-blocking socket.

    A socket file that nobody listens on is replaced; anything else at the path is left alone.

    Args:
        address: where.
        keepalive: of the connections that it brings; see ``connect``.
        reuse_port: share the port with other sockets that want to.
        mode: permissions of a Unix socket's file, from before anybody can connect.

    Raises:
        TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds, or ``mode`` has other
            bits than permissions.
        InvalidAddress, ListenFailed, WrongAddress: what went wrong, and a cure.
    """
    if mode is not None:
        checked_mode(mode, address)
    options = _keepalive_options(keepalive)  # those of a listener are its connections' as well
    if isinstance(address, UdsAddress):
        if reuse_port:
            raise WrongAddress(f"{address}: only TCP ports can be shared, by reuse_port")
        return await _listen_uds(address, mode)
    if address.host == ANY_HOST:
        family, name = _any_address(address.port)
    else:
        try:
            family, name = (await _resolve(address))[0]
        except OSError as error:
            raise failure(ListenFailed, unresolved(address, error), [error]) from error
    if reuse_port:
        options.append((socket.SOL_SOCKET, _reuse_port_option(address), 1))
    if sys.platform != "win32":
        # Port in TIME_WAIT: fine. On Windows the option would steal a live port instead.
        options.append((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    if family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != ANY_HOST))
    pauses = iter(CHURN_PAUSES)
    while True:
        try:
            return _start(_tcp_socket(family), name, options)
        except OSError as error:
            pause = next(pauses, None)
            if pause is None or error.errno != errno.EADDRINUSE:
                raise cannot_listen(address, error) from error
        await asyncio.sleep(pause)


def local_address(sock: socket.socket, asked: Address) -> Address:
    """Where a listening socket really is: with the port that the system chose."""
    if isinstance(asked, UdsAddress):
        return asked
    return TcpAddress(asked.host, sock.getsockname()[1])


def stop_listening(sock: socket.socket) -> None:
    """Let nobody connect any more, and the address go, before the socket is closed.

    The kernel closes it when the last copy of it closes, and a child that was just forked has one
    until it begins to run.
    """
    with contextlib.suppress(OSError):  # only Linux knows this of listeners; elsewhere ENOTCONN
        sock.shutdown(socket.SHUT_RDWR)


async def _resolve(address: TcpAddress) -> list[Place]:
    """The addresses of a host.

    Raises:
        OSError: it has none now, and may have one later.
        InvalidAddress: no host can have this name.
    """
    try:
        if socket_module() is socket:
            return await resolve(address.host, address.port)
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    except UnicodeError as error:
        raise InvalidAddress(f"{address.host!r} is not a host ({error}): check the name") from error
    # The stubs allow for a raw address of an unknown family, which this query cannot bring.
    return [(family, cast("SocketName", name)) for family, _, _, _, name in found]


async def _connected_tcp(place: Place, options: Iterable[_Option]) -> socket.socket:
    family, name = place
    sock = _tcp_socket(family)  # fails where the system has no IPv6, say
    note_copies(sock, stand_ins.connecting)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        await _connect(sock, name)
        with contextlib.suppress(OSError):  # it has gone already, as reading will tell
            if sock.getsockname() == sock.getpeername():
                # Where nobody listens, a port that the system gives to who connects can be the
                # very one that is connected to: such a socket talks to itself.
                raise _Echo
    except _Echo:
        sock.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(sock: socket.socket, name: SocketName) -> None:
    loop = asyncio.get_running_loop()
    scope = name[3] if len(name) == 4 and not isinstance(name, str) else 0
    if not scope or isinstance(loop, asyncio.BaseEventLoop):
        with usual_errno():
            await loop.sock_connect(sock, name)
        return
    # uvloop reads the name anew and drops its scope, without which it leads nowhere.
    with contextlib.suppress(BlockingIOError):
        sock.connect(name)
    writable = asyncio.Event()
    loop.add_writer(sock, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(sock)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


class _Echo(Exception):
    """A socket that is connected to itself."""


def _keepalive_options(keepalive: float | None) -> list[_Option]:
    """Ask after so many seconds, then a few times more in the same time again."""
    if keepalive is None:
        return []
    checked_seconds("keepalive", keepalive, KEEPALIVE_MIN, KEEPALIVE_MAX)
    idle = math.ceil(keepalive)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Linux, Windows and the BSDs call the first one TCP_KEEPIDLE, macOS TCP_KEEPALIVE.
    for name, value in (
        ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", idle),
        ("TCP_KEEPINTVL", math.ceil(keepalive / KEEPALIVE_PROBES)),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        number = getattr(socket, name, None)
        if number is not None:
            options.append((socket.IPPROTO_TCP, number, value))
    return options


def _reuse_port_option(address: Address) -> int:
    option: int | None = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise ListenFailed(f"cannot listen on {address}: this system has no SO_REUSEPORT")
    return option


def _any_address(port: int) -> Place:
    if socket_module().has_dualstack_ipv6():
        return socket.AF_INET6, ("::", port)
    return socket.AF_INET, ("0.0.0.0", port)  # noqa: S104 - what "*" asks for


def _start(sock: socket.socket, name: SocketName, options: Iterable[_Option] = ()) -> socket.socket:
    with _closed_on_failure(sock):
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        sock.bind(name)
        _listen(sock)
    return sock


def _listen(sock: socket.socket) -> None:
    sock.listen(LISTEN_BACKLOG)
    note_copies(sock, stand_ins.listening)


@contextlib.contextmanager
def _closed_on_failure(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def note_copies(sock: socket.socket, copied: WeakSet[socket.socket]) -> None:
    """Note what a forked child gets a copy of. The descriptor of a simulated one is none."""
    if socket_module() is socket:
        copied.add(sock)


def _tcp_socket(family: socket.AddressFamily) -> socket.socket:
    # By name, for asyncio sets TCP_NODELAY only where it reads the protocol's number, and on an
    # accepted socket that is the listener's. Without it a small message waits for a delayed ACK.
    return socket_module().socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


async def _connect_uds(address: UdsAddress) -> socket.socket:
    name = _uds_name(address)
    while True:
        try:
            return _connected_uds(name)
        except BlockingIOError:
            await asyncio.sleep(UNIX_BACKLOG_RETRY)
        except FileNotFoundError as error:
            text = f"there is no socket at {address}: start the listener first, or check the path"
            raise failure(UdsPathNotFound, text, [error]) from error
        except OSError as error:
            text = f"cannot connect to {address}: {explain(error)}"
            raise failure(ConnectFailed, text, [error]) from error


def _connected_uds(name: str) -> socket.socket:
    sock = _uds_socket()
    note_copies(sock, stand_ins.connecting)
    with _closed_on_failure(sock):
        # Never "in progress": it succeeds or fails at once. asyncio's sock_connect takes EAGAIN
        # for EINPROGRESS and calls a full backlog a connection.
        sock.connect(name)
    return sock


async def _listen_uds(address: UdsAddress, mode: int | None) -> socket.socket:
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


def _listening_uds(address: UdsAddress, mode: int | None) -> socket.socket:
    name = _uds_name(address)
    sock = _uds_socket()  # first: where there are none, nothing else would do either
    if address.abstract:
        return _start(sock, name)
    with _closed_on_failure(sock), alone_at(address):
        _remove_stale(address)
        sock.bind(name)
        with removed_on_failure(name):
            if mode is not None:
                set_mode(name, mode)
            _listen(sock)
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

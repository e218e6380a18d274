"""TCP: connecting tries each address of a host, and errors explain what to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterable
from typing import Final, cast

from ..protocol.address import ANY_HOST, Address, TcpAddress
from ..protocol.errors import ConnectFailed, InvalidAddress, ListenFailed, WrongAddress
from . import stand_ins
from .failures import cannot_listen, explain_all, failure, unresolved
from .happy_eyeballs import Endpoint, NoneConnected, SocketName, first_connected
from .limits import CHURN_PAUSES
from .resolving import resolve
from .socket_file import checked_mode
from .socket_module import note_copies, socket_module, start_listening
from .socket_options import Option, keepalive_options, reuse_port_option
from .socket_transport import SocketTransport
from .windows import usual_errno

_CHURN: Final = {errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ECONNABORTED}
"""Temporary errors while many connections are opened and closed: there is no free port to connect
from, or a port is still in use by a connection that was just closed."""


class TcpTransport(SocketTransport):
    """Connects to a host, or listens on it. See ``SocketTransport``.

    Args:
        address: of a listener.
    """

    networked = True
    has_hosts = True

    def __init__(self, address: TcpAddress) -> None:
        self._address = address

    async def dial(self, keepalive: float | None) -> socket.socket:
        """Connect to the first address of the host that answers. See ``first_connected``."""
        address = self._address
        options = keepalive_options(keepalive)
        if address.host == ANY_HOST or address.port == 0:
            raise WrongAddress(
                f"{address} is for listening only: to connect, give the listener's host and port"
            )
        try:
            return await self.dial_any(options)
        except OSError as error:
            raise failure(ConnectFailed, unresolved(address, error), [error]) from error
        except NoneConnected as none:
            errors = [error for _, error in none.failures]
            text = f"cannot connect to {address}: {explain_all(none.failures)}"
            cause = ExceptionGroup("no address connected", errors)
            raise failure(ConnectFailed, text, errors) from (cause if errors[1:] else errors[0])

    async def dial_any(self, options: Iterable[Option]) -> socket.socket:
        """Do what ``dial`` does, with the errors of the system.

        Raises:
            NoneConnected: no address of the host can be connected to.
            OSError: the host has none (now).
        """

        async def attempt(endpoint: Endpoint) -> socket.socket:
            return await _connected_tcp(endpoint, options)

        pauses = iter(CHURN_PAUSES)
        endpoints = await _resolve(self._address)
        while True:
            try:
                return await first_connected(endpoints, attempt)
            except NoneConnected as none:
                pause = next(pauses, None)
                if pause is None or _CHURN.isdisjoint(error.errno for _, error in none.failures):
                    raise
            await asyncio.sleep(pause)

    async def bind(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> socket.socket:
        """Listen on the first address of the host, or on all addresses of this machine."""
        address = self._address
        if mode is not None:
            checked_mode(mode, address)
        options = keepalive_options(keepalive)  # accepted sockets inherit them from the listener
        if address.host == ANY_HOST:
            family, name = _any_address(address.port)
        else:
            try:
                family, name = (await _resolve(address))[0]
            except OSError as error:
                raise failure(ListenFailed, unresolved(address, error), [error]) from error
        if reuse_port:
            options.append((socket.SOL_SOCKET, reuse_port_option(address), 1))
        if sys.platform != "win32":
            # Allows a port in TIME_WAIT. On Windows it would allow taking a port that is in use.
            options.append((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
        if family == socket.AF_INET6:
            options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != ANY_HOST))
        pauses = iter(CHURN_PAUSES)
        while True:
            try:
                return start_listening(_tcp_socket(family), name, options)
            except OSError as error:
                pause = next(pauses, None)
                if pause is None or error.errno != errno.EADDRINUSE:
                    raise cannot_listen(address, error) from error
            await asyncio.sleep(pause)

    def options(self, keepalive: float | None) -> list[Option]:
        """Return those for keep-alive probes, and to send at once, which asyncio may not set."""
        return [*keepalive_options(keepalive), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]

    async def attach(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
    ) -> asyncio.BaseTransport:
        """Make an asyncio transport of a connected socket."""
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        return transport

    def bound(self, sock: socket.socket) -> Address:
        """The address with the port that the system chose."""
        return TcpAddress(self._address.host, sock.getsockname()[1])


async def _resolve(address: TcpAddress) -> list[Endpoint]:
    """Look up the addresses of a host.

    Raises:
        OSError: it has no address (now).
        InvalidAddress: the name is not a valid host name.
    """
    try:
        if socket_module() is socket:
            return await resolve(address.host, address.port)
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    except UnicodeError as error:
        raise InvalidAddress(f"{address.host!r} is not a host ({error}): check the name") from error
    # The stubs allow for raw addresses of an unknown family, which this query does not return.
    return [(family, cast("SocketName", name)) for family, _, _, _, name in found]


async def _connected_tcp(endpoint: Endpoint, options: Iterable[Option]) -> socket.socket:
    family, name = endpoint
    sock = _tcp_socket(family)  # fails for example if the system has no IPv6
    note_copies(sock, stand_ins.connecting)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        await _connect(sock, name)
        with contextlib.suppress(OSError):  # the peer has disconnected; reading will report that
            if sock.getsockname() == sock.getpeername():
                # If nothing listens on an ephemeral port, the system may choose that very port as
                # the source port, and the socket is connected to itself.
                raise _ConnectedToItself
    except _ConnectedToItself:
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
    # uvloop parses the address again and drops its scope, without which a link-local address is
    # useless.
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


class _ConnectedToItself(Exception):
    """A socket that is connected to itself."""


def _any_address(port: int) -> Endpoint:
    if socket_module().has_dualstack_ipv6():
        return socket.AF_INET6, ("::", port)
    return socket.AF_INET, ("0.0.0.0", port)  # noqa: S104 - what "*" asks for


def _tcp_socket(family: socket.AddressFamily) -> socket.socket:
    # The protocol number is given explicitly: asyncio sets TCP_NODELAY only on sockets that have
    # it, and an accepted socket inherits it from the listener. Without TCP_NODELAY a small message
    # would wait for a delayed ACK.
    return socket_module().socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)

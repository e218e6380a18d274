"""The interface that each kind of transport implements."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

from ..protocol.address import Address
from .socket_attributes import Attributes


class Arrivals(Protocol):
    """Decides about the connections that an acceptor accepts."""

    def expect(
        self, address: Address | None, taken_over: Callable[[], object]
    ) -> asyncio.BaseProtocol | None:
        """Return the protocol for a connection that is being accepted; None to refuse it.

        If no transport can be made for the connection, the acceptor calls the protocol's
        ``connection_lost`` without its ``connection_made``.

        Args:
            address: of the peer; None if it has none.
            taken_over: called once, when a channel has its transport.
        """

    @property
    def full(self) -> bool:
        """Whether a further connection would have to wait for one to end."""

    def watch(self, changed: Callable[[], object]) -> None:
        """Call a function whenever ``full`` may have changed."""

    def close(self) -> None:
        """Drop the connections that are not channels yet."""


class Acceptor(ABC):
    """Listens at one place, and accepts the connections to it.

    Attributes:
        address: of the place, with what the system has chosen, such as a port.
    """

    address: Address

    @abstractmethod
    def start(self, arrivals: Arrivals) -> None:
        """Start to accept connections.

        Args:
            arrivals: told of each connection, and closed together with this.

        Raises:
            ListenFailed: the system refuses it. The place is closed then.
        """

    @abstractmethod
    def attributes(self) -> Attributes:
        """Return anyio's ``SocketAttribute``s of the place; none once it is closed."""

    @abstractmethod
    def stop(self) -> None:
        """Accept nothing more. Connections that are not channels yet keep their time for a Hello.

        May be called again.
        """

    @abstractmethod
    def close(self) -> None:
        """Accept nothing more, and drop connections without a Hello. May be called again."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait, after ``stop``, until the place is free."""

    @abstractmethod
    def leave_to_parent(self) -> None:
        """Count as closed in a forked child, where the place is the parent's."""


class Transport(ABC):
    """Connects to an address, or listens on it.

    Attributes:
        networked: whether the peer may be on another machine. If so, heartbeats make sense.
        has_hosts: whether each peer has the address of a host. If so, limits per address and TLS
            between the two ends make sense.
    """

    networked: ClassVar[bool]
    has_hosts: ClassVar[bool]

    @abstractmethod
    async def connect(
        self, protocol: asyncio.BaseProtocol, keepalive: float | None
    ) -> Address | None:
        """Connect, and make an asyncio transport for a protocol. The caller sets the timeout.

        If it raises or is cancelled, the protocol may have had its ``connection_made``, and its
        transport is closed.

        Args:
            protocol: of the new transport.
            keepalive: seconds of silence after which the kernel probes whether the peer is still
                there; None for no probes.

        Returns:
            The address of the peer, if it is known.

        Raises:
            TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds.
            ConnectFailed, InvalidAddress, UdsPathNotFound, WrongAddress: connecting failed; the
                message says why, and what to do.
        """

    @abstractmethod
    async def listen(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> Acceptor:
        """Listen, and return the acceptor, which is to be started next.

        Args:
            keepalive: for the connections that it accepts; see ``connect``.
            reuse_port: share the port with other sockets that set this, too.
            mode: the permissions of a Unix socket's file. They are set before anyone can connect.

        Raises:
            TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds, or ``mode`` is not 0
                to 0o777.
            InvalidAddress, ListenFailed, WrongAddress: listening failed; the message says why, and
                what to do.
        """

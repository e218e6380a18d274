"""What each kind of transport does."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import ClassVar

from ..protocol.address import Address


class Transport(ABC):
    """Connects to an address, or listens on it.

    Attributes:
        networked: whether the peer may be on another machine. Then TLS, heartbeats and limits for
            each address make sense.
    """

    networked: ClassVar[bool]

    @abstractmethod
    async def connect(self, keepalive: float | None) -> socket.socket:
        """A connected, non-blocking socket. The caller bounds the time.

        Args:
            keepalive: seconds of silence after which the kernel asks whether the peer is there.

        Raises:
            TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds.
            ConnectFailed, InvalidAddress, UdsPathNotFound, WrongAddress: what went wrong, and a
                cure.
        """

    @abstractmethod
    async def listen(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> socket.socket:
        """A listening, non-blocking socket.

        Args:
            keepalive: of the connections that it brings; see ``connect``.
            reuse_port: share the port with other sockets that want to.
            mode: permissions of a Unix socket's file, from before anybody can connect.

        Raises:
            TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds, or ``mode`` has
                other bits than permissions.
            InvalidAddress, ListenFailed, WrongAddress: what went wrong, and a cure.
        """

    @abstractmethod
    async def attach(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
    ) -> None:
        """Make an asyncio transport of a connected socket, for this protocol."""

    @abstractmethod
    def bound(self, sock: socket.socket) -> Address:
        """Where a listening socket is, with the port that the system chose."""

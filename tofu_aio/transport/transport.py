"""The interface that each kind of transport implements."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import ClassVar

from ..protocol.address import Address


class Transport(ABC):
    """Connects to an address, or listens on it.

    Attributes:
        networked: whether the peer may be on another machine. If so, TLS, heartbeats and limits per
            address make sense.
    """

    networked: ClassVar[bool]

    @abstractmethod
    async def connect(self, keepalive: float | None) -> socket.socket:
        """Return a connected, non-blocking socket. The caller sets the timeout.

        Args:
            keepalive: seconds of silence after which the kernel probes whether the peer is still
                there; None for no probes.

        Raises:
            TypeError, ValueError: ``keepalive`` is not 0.01 to 32,767 seconds.
            ConnectFailed, InvalidAddress, UdsPathNotFound, WrongAddress: connecting failed; the
                message says why, and what to do.
        """

    @abstractmethod
    async def listen(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> socket.socket:
        """Return a listening, non-blocking socket.

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

    @abstractmethod
    async def attach(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
    ) -> None:
        """Make an asyncio transport for a connected socket and this protocol."""

    @abstractmethod
    def bound(self, sock: socket.socket) -> Address:
        """Return the address of a listening socket, with the port that the system chose."""

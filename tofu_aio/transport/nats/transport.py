"""Connecting and listening through NATS brokers."""

from __future__ import annotations

import asyncio
import ssl

from ...protocol.address import Address, NatsAddress
from ...protocol.errors import ConnectFailed, ListenFailed, WrongAddress
from ..socket_options import keepalive_options
from ..transport import Acceptor, Transport
from .acceptor import NatsAcceptor
from .failures import NoBroker, explain
from .link import Link
from .links import joined
from .opening import PREFIX, NoListener, opened
from .stream import NatsStream


class NatsTransport(Transport):
    """Connects to any listener of a service, or is one of them. See ``Transport``.

    Args:
        address: of the service.
        context: for TLS to the broker; None for the default one, if the broker demands TLS.
    """

    networked = True
    has_hosts = False

    def __init__(self, address: NatsAddress, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._context = context

    async def connect(
        self, protocol: asyncio.BaseProtocol, keepalive: float | None
    ) -> Address | None:
        """Connect to one of the listeners, which the broker chooses."""
        keepalive_options(keepalive)
        address = self._address
        try:
            link = await joined(address, self._context)
        except NoBroker as error:
            raise ConnectFailed(f"cannot connect to {address}: {error}") from error
        try:
            stream = await _opened(link, PREFIX + address.service)
        except NoListener as error:
            raise ConnectFailed(
                f"nobody listens on {address}, or all who do are full: start a listener first"
            ) from error
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {address}: {explain(error)}") from error
        link.quit()  # the stream is a user of its own
        stream.start(protocol)
        return address

    async def listen(
        self, keepalive: float | None, *, reuse_port: bool, mode: int | None
    ) -> Acceptor:
        """Become one of the listeners."""
        keepalive_options(keepalive)
        address = self._address
        if reuse_port:
            raise WrongAddress(
                f"{address}: reuse_port is for TCP ports only: any number may listen here"
            )
        if mode is not None:
            raise WrongAddress(f"{address}: mode is for the files of Unix sockets: leave it out")
        acceptor = NatsAcceptor(address, self._context)
        try:
            await acceptor.join()
        except NoBroker as error:
            raise ListenFailed(f"cannot listen on {address}: {error}") from error
        except Exception as error:
            raise ListenFailed(f"cannot listen on {address}: {explain(error)}") from error
        return acceptor


async def _opened(link: Link, subject: str) -> NatsStream:
    """Open a stream. If that fails, leave the connection to the broker."""
    try:
        return await opened(link, subject)
    except BaseException:
        await link.part()
        raise

"""The steps of connecting to a listener: transport, headers of the Hello, and the answer."""

from __future__ import annotations

import asyncio
import ssl

from ...protocol.address import Address
from ...protocol.errors import ERRORS, ConnectFailed, PeerDisconnected, ProtocolViolation
from ...protocol.quoting import quoted
from ...protocol.status import Status
from ...protocol.text_headers import CONNECT_TO, HeadersLike, TextHeaders
from ...transport import transports
from ..channel import Channel
from .agreements import SUPPORTED
from .connection import Connection
from .heartbeat import HeartbeatOption, heartbeat_header


async def attach(
    connection: Connection,
    where: Address,
    protocol: asyncio.BaseProtocol,
    keepalive: float | None = None,
    context: ssl.SSLContext | None = None,
) -> None:
    """Connect, and give the transport to the connection, or to the TLS layer beneath it."""
    try:
        connection.peer_address = await transports.connect(where, protocol, keepalive, context)
    except BaseException:
        connection.detach()
        raise
    if connection.end is not None:  # the channel was closed, or the peer has closed already
        connection.closing.abort(connection.end)


def hello_headers(where: Address, headers: HeadersLike, heartbeat: HeartbeatOption) -> TextHeaders:
    """The headers of a Hello: the address, the engine's own, and then the application's."""
    own = {CONNECT_TO: where.to_header(), **own_headers(where, heartbeat)}
    return TextHeaders([*own.items(), *TextHeaders(headers).pairs])


def own_headers(where: Address, heartbeat: HeartbeatOption) -> dict[str, str]:
    """The engine's headers in each Hello and answer of a stream channel: what this side can do.

    Raises:
        TypeError, ValueError: as ``heartbeat_header``.
    """
    return {**heartbeat_header(heartbeat, where), **SUPPORTED}


def check_accepted(channel: Channel, where: Address, *, tls: bool) -> None:
    """Check that the listener has accepted the channel.

    Raises:
        ConnectFailed: it has not. The message has the reason, and a remedy if there is a likely
            one.
    """
    answer = channel._dispatcher.hello
    if answer is not None:
        if answer.status is Status.SUCCESS:
            return  # if the channel has ended since, receiving raises that after its messages
        words, status = quoted(answer.body), answer.status.name.lower()
        text = f"{where} refused the channel: " + (f"{words} ({status})" if words else status)
        raise ConnectFailed(text, answer=answer) from ERRORS[answer.status](words or status)
    end, remedy = channel.end, ""
    if isinstance(end, ProtocolViolation):
        remedy = ": is it a tofu peer?"
    elif isinstance(end, PeerDisconnected) and not tls and transports.transport_to(where).has_hosts:
        remedy = ": is it a tofu peer, is it full, or does it expect TLS (then connect with ssl=)?"
    raise ConnectFailed(f"{where} did not accept the channel: {end}{remedy}") from end

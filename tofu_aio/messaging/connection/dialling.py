"""What connecting to a listener takes, beside its channel: a socket, a Hello, and a yes."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from ...protocol.address import Address
from ...protocol.errors import ERRORS, ConnectFailed, PeerDisconnected, ProtocolViolation
from ...protocol.quoting import quoted
from ...protocol.status import Status
from ...protocol.text_headers import CONNECT_TO, HeadersLike, TextHeaders
from ...transport import stand_ins, transports
from ...transport.peer import address_of
from ..channel import Channel
from .agreements import SUPPORTED
from .connection import Connection
from .heartbeat import HeartbeatOption, heartbeat_header


async def attach(
    connection: Connection,
    where: Address,
    protocol: asyncio.BaseProtocol,
    keepalive: float | None = None,
) -> None:
    """Connect a socket and give it to the connection, or to the layer beneath it."""
    sock = await transports.connect(where, keepalive)
    with contextlib.suppress(OSError):  # the peer has gone already
        connection.peer_address = address_of(sock.getpeername())
    loop = asyncio.get_running_loop()
    try:
        await transports.transport_to(where).attach(loop, protocol, sock)
    except BaseException as error:
        if isinstance(error, Exception):
            sock.close()  # it has no transport; a cancelled one closes its own
        else:
            _let_go(sock, loop)
        connection.detach()
        raise
    stand_ins.connecting.discard(sock)  # the engine knows its transport
    if connection.end is not None:  # it was given up, or the peer was faster in leaving
        connection.closing.abort(connection.end)
        _let_go(sock, loop)


def _let_go(sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    """Leave a socket to its transport, which closes.

    winloop's, and uvloop's, may have closed the descriptor and not have told the socket, which
    would close it again: by then it may be another's.
    """
    if not isinstance(loop, asyncio.BaseEventLoop):
        sock.detach()


def hello_headers(where: Address, headers: HeadersLike, heartbeat: HeartbeatOption) -> TextHeaders:
    """The headers of a Hello: where it goes, the engine's, and then the application's."""
    own = {CONNECT_TO: where.to_header(), **own_headers(where, heartbeat)}
    return TextHeaders([*own.items(), *TextHeaders(headers).pairs])


def own_headers(where: Address, heartbeat: HeartbeatOption) -> dict[str, str]:
    """The headers that every Hello and answer of a stream channel has: what this side can do.

    Raises:
        TypeError, ValueError: as ``heartbeat_header``.
    """
    return {**heartbeat_header(heartbeat, where), **SUPPORTED}


def check_accepted(channel: Channel, where: Address, *, tls: bool) -> None:
    """See whether the listener has accepted the channel.

    Raises:
        ConnectFailed: it has not: why, and if that can be told, the cure.
    """
    answer = channel._dispatcher.hello
    if answer is not None:
        if answer.status is Status.SUCCESS:
            return  # if it has ended since, receiving will tell, after what came before
        words, status = quoted(answer.body), answer.status.name.lower()
        text = f"{where} refused the channel: " + (f"{words} ({status})" if words else status)
        raise ConnectFailed(text, answer=answer) from ERRORS[answer.status](words or status)
    end, cure = channel.end, ""
    if isinstance(end, ProtocolViolation):
        cure = ": is it a tofu peer?"
    elif isinstance(end, PeerDisconnected) and not tls and transports.transport_to(where).networked:
        cure = ": is it full, or does it expect TLS? Then connect with ssl="
    raise ConnectFailed(f"{where} did not accept the channel: {end}{cure}") from end

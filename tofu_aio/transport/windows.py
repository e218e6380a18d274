"""What is otherwise on Windows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import types
from collections.abc import Coroutine, Generator, Iterator
from typing import Final, TypeAlias

Accepted: TypeAlias = tuple[socket.socket, object]
"""A connection, and whose it is."""

_ERRNO: Final = {
    59: errno.ECONNRESET,  # ERROR_UNEXP_NET_ERR
    64: errno.ECONNRESET,  # ERROR_NETNAME_DELETED
    121: errno.ETIMEDOUT,  # ERROR_SEM_TIMEOUT
    1225: errno.ECONNREFUSED,  # ERROR_CONNECTION_REFUSED
    1231: errno.ENETUNREACH,  # ERROR_NETWORK_UNREACHABLE
    1232: errno.EHOSTUNREACH,  # ERROR_HOST_UNREACHABLE
    1236: errno.ECONNABORTED,  # ERROR_CONNECTION_ABORTED
    10057: errno.ECONNABORTED,  # WSAENOTCONN: it was accepted, and had gone already
}


@contextlib.contextmanager
def usual_errno() -> Iterator[None]:
    """Raise errors of the network with the number that they have on every loop but one.

    The completion port of asyncio's proactor brings the system's own numbers, and Python takes
    those that are no socket's for EINVAL.
    """
    try:
        yield
    except OSError as error:
        number = _ERRNO.get(getattr(error, "winerror", None) or 0)
        if number is None:
            raise
        raise OSError(number, error.strerror) from error


@types.coroutine
def close_if_unheard(
    accepting: Coroutine[asyncio.Future[Accepted], None, Accepted],
) -> Generator[asyncio.Future[Accepted], None, Accepted]:
    """Await ``sock_accept``; a connection that comes as the task is cancelled is closed.

    The task hears of it in the next turn. Cancelled before that, it would leave the connection to
    the garbage collection, and the peer without an end of it.
    """
    try:
        while True:
            waiting = accepting.send(None)
            try:
                yield waiting
            except asyncio.CancelledError:
                if not waiting.cancelled() and waiting.done() and waiting.exception() is None:
                    waiting.result()[0].close()
                raise
    except StopIteration as end:
        accepted: Accepted = end.value
        return accepted
    finally:
        accepting.close()


def send_at_once(transport: asyncio.BaseTransport) -> None:
    """Set TCP_NODELAY on an accepted socket.

    asyncio sets it on sockets that have TCP's protocol number, which Python does not give to those
    that are accepted on Windows. Without it a small message waits for a delayed ACK.
    """
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it has gone already, as reading will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

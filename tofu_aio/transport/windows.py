"""What is different on Windows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import types
from collections.abc import Coroutine, Generator, Iterator
from typing import Final, TypeAlias

Accepted: TypeAlias = tuple[socket.socket, object]
"""An accepted socket, and the peer's name."""

_ERRNO: Final = {
    59: errno.ECONNRESET,  # ERROR_UNEXP_NET_ERR
    64: errno.ECONNRESET,  # ERROR_NETNAME_DELETED
    121: errno.ETIMEDOUT,  # ERROR_SEM_TIMEOUT
    1225: errno.ECONNREFUSED,  # ERROR_CONNECTION_REFUSED
    1231: errno.ENETUNREACH,  # ERROR_NETWORK_UNREACHABLE
    1232: errno.EHOSTUNREACH,  # ERROR_HOST_UNREACHABLE
    1236: errno.ECONNABORTED,  # ERROR_CONNECTION_ABORTED
    10057: errno.ECONNABORTED,  # WSAENOTCONN: the peer had disconnected before it was accepted
}


@contextlib.contextmanager
def usual_errno() -> Iterator[None]:
    """Translate network errors of the proactor loop to the ``errno`` that other loops report.

    The completion port of asyncio's proactor reports Windows' own error numbers. Python converts
    those that are not socket errors to EINVAL.
    """
    try:
        yield
    except OSError as error:
        number = _ERRNO.get(getattr(error, "winerror", None) or 0)
        if number is None:
            raise
        raise OSError(number, error.strerror) from error


@types.coroutine
def close_if_cancelled(
    accepting: Coroutine[asyncio.Future[Accepted], None, Accepted],
) -> Generator[asyncio.Future[Accepted], None, Accepted]:
    """Await ``sock_accept``. If it completes while the task is cancelled, close the connection.

    The task is resumed one turn of the loop after the connection was accepted. If it is cancelled
    in between, the socket would stay open until it is garbage-collected, and the peer would not
    notice the end.
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


def set_nodelay(sock: socket.socket) -> None:
    """Set TCP_NODELAY on an accepted socket, before it has a transport.

    asyncio sets it only on sockets whose protocol number is that of TCP, and on Windows Python does
    not set this number for accepted sockets. Without TCP_NODELAY a small message would wait for a
    delayed ACK.
    """
    with contextlib.suppress(OSError):  # the peer has disconnected; reading will report that
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

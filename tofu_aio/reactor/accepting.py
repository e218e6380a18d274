"""Accepting connections for asyncio's servers, and what to do when that fails."""

from __future__ import annotations

from asyncio.trsock import TransportSocket
from inspect import signature
from typing import TYPE_CHECKING, Final, cast

from tofu_aio.accepting import LOST
from tofu_aio.reactor.selector_loop import SelectorLoop

if TYPE_CHECKING:
    import socket

RETRY: Final = 1.0
"""Seconds until the next attempt after a failure."""


class AcceptingLoop(SelectorLoop):
    """A selector loop whose servers wait for a second when accepting fails, and log that once.

    asyncio's loop calls accept(2) as many times as the backlog is long. For each call that fails
    because there is no free descriptor, it logs a traceback and sets a timer. The timer fires even
    if the server was closed meanwhile, and then fails. If accepting fails for another reason,
    asyncio logs that in every turn.
    """

    def _accept_connection(
        self, protocol_factory: object, sock: socket.socket, *rest: object, **options: object
    ) -> None:
        queue = _Queue(sock)
        # It is no socket, but has the one method that is called here.
        pending = cast("socket.socket", queue)
        super()._accept_connection(protocol_factory, pending, *rest, **options)
        if queue.failure is not None:
            self._remove_reader(sock.fileno())
            accept = signature(super()._accept_connection)
            called = accept.bind(protocol_factory, sock, *rest, **options)
            called.apply_defaults()  # `_start_serving` takes the same arguments.
            self._serve_later(queue.failure, *called.args)

    def _serve_later(
        self, failure: OSError, protocol_factory: object, sock: socket.socket, *rest: object
    ) -> None:
        self.call_later(RETRY, self._serve_again, protocol_factory, sock, *rest)
        self.call_exception_handler(
            {
                "message": f"socket.accept() failed: the server tries again in {RETRY:g} s",
                "exception": failure,
                "socket": TransportSocket(sock),
            }
        )

    def _serve_again(self, protocol_factory: object, sock: socket.socket, *rest: object) -> None:
        if sock.fileno() < 0:
            return  # The server was closed.
        try:
            self._start_serving(protocol_factory, sock, *rest)
        except OSError as error:  # The system has no room to watch one more descriptor.
            self._serve_later(error, protocol_factory, sock, *rest)


class _Queue:
    """The pending connections of a listening socket, up to the first failure.

    Attributes:
        failure: The error that another attempt would meet again at once, or None.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.failure: OSError | None = None

    def accept(self) -> tuple[socket.socket, object]:
        """Accept the next connection.

        Raises:
            BlockingIOError, InterruptedError: There is none at the moment.
        """
        if self.failure is None:
            try:
                return self._sock.accept()
            except (BlockingIOError, InterruptedError):
                raise
            except OSError as error:
                if error.errno not in LOST:
                    self.failure = error
        raise BlockingIOError

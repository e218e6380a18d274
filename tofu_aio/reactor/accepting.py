"""Accepting connections for asyncio's servers, also where that fails."""

from __future__ import annotations

from asyncio.trsock import TransportSocket
from inspect import signature
from typing import TYPE_CHECKING, Final, cast

from tofu_aio.accepting import LOST
from tofu_aio.reactor.selector_loop import SelectorLoop

if TYPE_CHECKING:
    import socket

RETRY: Final = 1.0
"""Seconds until accepting is tried again."""


class AcceptingLoop(SelectorLoop):
    """A selector loop whose servers wait a second when accepting fails, and say so once.

    asyncio's calls accept(2) as often as the backlog is long, and for each call that finds no
    descriptor it logs a traceback and sets a timer of its own, which also fires where the server
    was closed meanwhile, and fails there. Where accepting fails for another reason, that is logged
    in every turn.
    """

    def _accept_connection(
        self, protocol_factory: object, sock: socket.socket, *rest: object, **options: object
    ) -> None:
        queue = _Queue(sock)
        # It has nothing of a socket but what is called here.
        pending = cast("socket.socket", queue)
        super()._accept_connection(protocol_factory, pending, *rest, **options)
        if queue.failure is not None:
            self._remove_reader(sock.fileno())
            accept = signature(super()._accept_connection)
            called = accept.bind(protocol_factory, sock, *rest, **options)
            called.apply_defaults()  # `_start_serving` takes the same.
            self._serve_later(queue.failure, *called.args)

    def _serve_later(
        self, failure: OSError, protocol_factory: object, sock: socket.socket, *rest: object
    ) -> None:
        self.call_later(RETRY, self._serve_again, protocol_factory, sock, *rest)
        self.call_exception_handler(
            {
                "message": f"socket.accept() failed: trying again in {RETRY:g} s",
                "exception": failure,
                "socket": TransportSocket(sock),
            }
        )

    def _serve_again(self, protocol_factory: object, sock: socket.socket, *rest: object) -> None:
        if sock.fileno() < 0:
            return  # its server was closed
        try:
            self._start_serving(protocol_factory, sock, *rest)
        except OSError as error:  # no room for one more descriptor to watch
            self._serve_later(error, protocol_factory, sock, *rest)


class _Queue:
    """The connections that wait at a listening socket, up to the first failure.

    Attributes:
        failure: what went wrong, and goes wrong again if it is tried at once.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.failure: OSError | None = None

    def accept(self) -> tuple[socket.socket, object]:
        """The next one.

        Raises:
            BlockingIOError, InterruptedError: there is none now.
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

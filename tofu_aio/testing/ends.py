"""What simulated sockets stand for: an end of a connection, or the backlog of a listener."""

from __future__ import annotations

import errno
import os
import selectors
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from .medium import Medium
from .pipe import Pipe

Name: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
"""A socket's name, as getsockname(2) returns it for IPv4, IPv6 and Unix sockets."""


class End:
    """One end of a connection.

    Args:
        medium: what it shares with the other connections.
        own: its own name.
        peer: the other end's name.

    Attributes:
        closed: whether the program has closed it.
        connected: whether the connection is established, as far as this end knows.
        error: the errno with which the next call fails; 0 for none.
        lost: whether a reset has arrived, so that nothing is sent or received any more.
        descriptors: the descriptors that stand for it.
        on_close: called when the end of a connection is closed.
    """

    def __init__(self, medium: Medium, own: Name, peer: Name) -> None:
        self._kernel = medium.kernel
        self.own = own
        self.peer = peer
        self.closed = self.connected = self.lost = False
        self.error = 0
        self.descriptors: dict[int, None] = {}
        # These are set when the connection is established.
        self.outgoing: Pipe
        self.incoming: Pipe
        self.on_close: Callable[[], object]

    def readiness(self) -> int:
        """The events that are ready.

        It is readable if there is data, an error or the end of the stream; it is writable if there
        is room or an error, and once this side has ended its stream.
        """
        if not self.connected:
            return selectors.EVENT_WRITE if self.error else 0
        over = self.error or self.lost
        read = over or self.incoming.arrived or self.incoming.eof_arrived
        write = over or self.outgoing.finished or self.outgoing.room > 0
        return (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)

    def readiness_changed(self) -> None:
        """Let the kernel look at the readiness again."""
        self._kernel.readiness_changed(self.descriptors)

    def pop_error(self) -> int:
        """Return the error and clear it: it is reported once."""
        error, self.error = self.error, 0
        return error

    def receive_reset(self) -> None:
        """A reset has arrived. What arrived before it can still be read (tcp(7))."""
        if not self.closed and not self.lost:
            self.lost = True
            self.error = errno.EPIPE if self.incoming.eof_arrived else errno.ECONNRESET
            self.outgoing.discard_unsent()
            self.readiness_changed()

    def refuse_data(self) -> None:
        """Answer data that arrived after closing with a reset."""
        self.outgoing.reset()

    def break_connection(self) -> None:
        """Reset both directions, as if the network had lost the connection."""
        self.outgoing.reset()
        self.incoming.reset()

    def close(self, *, hard: bool) -> None:
        """Send what is left, then the end of the stream.

        Send a reset instead if ``hard``, or if data was not read: the peer must not believe that it
        was received (RFC 2525, 2.17).
        """
        self.closed = True
        if not self.connected:
            return
        if not self.lost:
            if hard or self.incoming.arrived:
                self.outgoing.reset()
            else:
                self.outgoing.finish()
        self.incoming.arrived.clear()
        self.on_close()


class Backlog:
    """The queue of a listening socket: connections that were not accepted yet.

    Args:
        medium: what it shares with the other listeners and connections.
        name: the name that it listens on.
        size: how many connections fit.
        on_close: called when the listener is closed.
    """

    def __init__(
        self, medium: Medium, name: Name, size: int, on_close: Callable[[], object]
    ) -> None:
        self._kernel = medium.kernel
        self._network = medium.network
        self._trace = medium.trace
        self._on_close = on_close
        self.name = name
        self.size = size
        self.pending: deque[End] = deque()
        self.descriptors: dict[int, None] = {}

    @property
    def full(self) -> bool:
        """Whether no further connection fits."""
        return len(self.pending) >= self.size

    def readiness(self) -> int:
        """Readable if a connection is pending."""
        return selectors.EVENT_READ if self.pending else 0

    def enqueue(self, end: End) -> None:
        """Add a connection."""
        self.pending.append(end)
        self._kernel.readiness_changed(self.descriptors)

    def accept(self) -> End:
        """Remove and return the first connection.

        Raises:
            BlockingIOError: no connection is pending.
            OSError: drawn from the network's ``accept_failures``.
        """
        if not self.pending:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        random, chance = self._kernel.random, self._network.accept_failures
        if chance and random.random() < chance:
            failure = random.choice((errno.EMFILE, errno.ECONNABORTED))
            self._trace.add("accept", "fails:", os.strerror(failure))
            if failure == errno.ECONNABORTED:
                self.pending.popleft().close(hard=True)
            raise OSError(failure, os.strerror(failure))
        return self.pending.popleft()

    def close(self, *, hard: bool) -> None:  # noqa: ARG002 - ends have it, and sockets give it
        """Stop listening, and reset the pending connections."""
        self._on_close()
        for end in self.pending:
            end.close(hard=True)

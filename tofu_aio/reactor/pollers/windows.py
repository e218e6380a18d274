"""What the pollers of Windows have in common: they watch sockets, and no signal ends their wait."""

from __future__ import annotations

import errno
import math
import select
import signal
import socket
import time
from abc import ABC, abstractmethod
from threading import get_ident, main_thread

from tofu_aio.reactor.pollers.poller import READ, WRITE, Event


class SocketPoller(ABC):
    """A poller that has a socket pair for signals.

    Signals do not interrupt a system call on Windows. A byte that Python's C handler writes to a
    socket does. So signals are written to one end of the pair, and the poller watches the other.

    Args:
        readable: The flag of a readable socket.
    """

    def __init__(self, readable: int) -> None:
        self._signal_writer, self._signal_reader = socket.socketpair()
        self._signal_writer.setblocking(False)
        self._signal_reader.setblocking(False)
        self._signalled: Event = self._signal_reader.fileno(), readable

    @abstractmethod
    def _ask(self, timeout: float | None, limit: int, /) -> list[Event]:
        """Ask the system once. It may answer with nothing at any time, and with `_signalled`."""

    def wait(self, timeout: float | None, limit: int, /) -> list[Event]:
        """Wait as `Poller.wait` does.

        In the main thread a signal ends the wait and its Python handler runs. If that does not
        raise, the wait continues. Another `signal.set_wakeup_fd` gets nothing meanwhile.
        """
        if timeout == 0:
            return self._without_own(self._ask(0, limit))
        if timeout is not None and math.isnan(timeout):
            raise ValueError("Invalid value NaN (not a number)")
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            events = self._without_own(self._ask_interruptibly(timeout, limit))
            if events:
                return events
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    return events

    def _ask_interruptibly(self, timeout: float | None, limit: int) -> list[Event]:
        """Ask. In the main thread, which runs signal handlers, signals interrupt the call."""
        if get_ident() != main_thread().ident:
            return self._ask(timeout, limit)
        others = -1
        try:
            others = signal.set_wakeup_fd(self._signal_writer.fileno(), warn_on_full_buffer=False)
            return self._ask(timeout, limit)
        finally:
            signal.set_wakeup_fd(others)

    def _without_own(self, events: list[Event]) -> list[Event]:
        """Remove the events of the poller's own sockets."""
        if self._signalled in events and self._drain_signals():
            events.remove(self._signalled)
        # If the socket pair is broken, its event is left. For the selector it is an unexpected
        # event, and a reason to take a new poller.
        return events

    def _drain_signals(self) -> bool:
        """Read what signals have written, and return whether the socket pair still works."""
        try:
            return bool(self._signal_reader.recv(4096))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def probe(self, fd: int, interest: int, /) -> int:
        """Ask select about the socket alone."""
        asked = (fd,)
        try:
            readable, writable, failed = select.select(
                asked if interest & READ else (), asked if interest & WRITE else (), asked, 0
            )
        except OSError:
            return 0
        if failed:
            return interest
        return (READ if readable else 0) | (WRITE if writable else 0)

    def close(self) -> None:
        """Close the socket pair."""
        self._signal_writer.close()
        self._signal_reader.close()


def refuse_no_socket(fd: int) -> None:
    """Raise OSError (EBADF) unless there is an open socket with this handle."""
    try:
        select.select((fd,), (), (), 0)
    except OSError as error:
        raise OSError(errno.EBADF, f"not an open socket: {fd}") from error

"""wepoll: epoll's interface over Windows' own completion ports, for sockets."""

from __future__ import annotations

import contextlib
import errno
import math
import select
import signal
import socket
import sys
import time
from threading import get_ident, main_thread
from typing import Protocol

import wepoll  # type: ignore[import-not-found,import-untyped,unused-ignore]

from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE, Event

assert sys.platform == "win32"  # tells the type checker where this module exists


class _Epoll(Protocol):
    """`wepoll.epoll`, as far as it is used here."""

    def register(self, fd: int, mask: int, /) -> None: ...
    def modify(self, fd: int, mask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float, limit: int, /) -> list[Event]: ...
    def close(self) -> None: ...


class WepollPoller:
    """Watches through `wepoll.epoll`, level-triggered; sockets only, as many as there are.

    wepoll keeps, per socket handle, what is wanted, and has one request pending with the system's
    socket driver, which says over a completion port that it came true or that the socket closed.
    From that, and from the source of its Python binding, follows what this class sees to:

    * A handle that was closed, and perhaps reused, is remembered until the driver's last word has
      been read in a `wait`, and that word would then forget the new socket as well. So a change
      is made by forgetting the handle and adding it anew, whoever has it now.
    * The driver writes into the memory of a request in the context of the thread that made it,
      even if another one closes wepoll meanwhile and frees it. So what two threads have used is
      emptied, and given time to be told so, before it is closed.
    * The binding waits until its deadline has *passed* by the monotonic clock and until then asks
      without waiting. Before Python 3.13 that clock ticks every 15.6 ms, so a wait that ends with
      a tick would use up the processor until the next one, as would each wait for nothing.
    * No signal interrupts a wait. What does is a byte that Python's C handler writes to a socket.

    The last two need a socket pair of the poller's own: one end to be written to by signals, which
    is always writable and so also cuts a look short, and one to be watched for what was written.
    """

    meaning = meanings(wepoll.EPOLLIN, wepoll.EPOLLOUT, wepoll.EPOLLERR, wepoll.EPOLLHUP)

    def __init__(self) -> None:
        self._bell, self._ear = socket.socketpair()
        try:
            self._bell.setblocking(False)
            self._ear.setblocking(False)
            self._rung: Event = self._ear.fileno(), _IN
            self._looked: Event = self._bell.fileno(), _OUT
            self._epoll: _Epoll | None = wepoll.epoll()
            self._epoll.register(self._ear.fileno(), _IN)
            self._epoll.register(self._bell.fileno(), _ONCE)
        except BaseException:
            self._bell.close()
            self._ear.close()
            raise
        # For `close` alone: what to empty it of, and who has used it.
        self._watched = {self._ear.fileno(), self._bell.fileno()}
        self._threads: set[int] = set()

    def _open(self) -> _Epoll:
        if self._epoll is None:
            raise ValueError("I/O operation on closed poller")
        self._threads.add(get_ident())
        return self._epoll

    def add(self, fd: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_ADD."""
        epoll = self._open()
        mask = _MASK[interest]
        # wepoll lets pass what is no socket where the system does not object to it (Wine), and
        # elsewhere reports it by C's number for it, which Python does not know.
        try:
            select.select((fd,), (), (), 0)
        except OSError as error:
            raise OSError(errno.EBADF, f"not an open socket: {fd}") from error
        try:
            epoll.register(fd, mask)
        except FileExistsError:
            # Its handle was closed without `remove`, and reused.
            epoll.unregister(fd)
            epoll.register(fd, mask)
        self._watched.add(fd)

    def modify(self, fd: int, _armed: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_DEL and EPOLL_CTL_ADD, so that it means who has the handle now."""
        mask = _MASK[interest]
        epoll = self._open()
        epoll.unregister(fd)
        epoll.register(fd, mask)

    def remove(self, fd: int, _armed: int, /) -> None:
        """EPOLL_CTL_DEL; what a request that is under way may still say is dropped."""
        self._watched.discard(fd)
        self._open().unregister(fd)

    def wait(self, timeout: float | None, limit: int, /) -> list[Event]:
        """epoll_wait, in the order of the completion port: first come, first served.

        In the main thread a signal ends the wait and its Python handler runs; if that does not
        raise, the wait goes on. Whoever else has set `signal.set_wakeup_fd` is not told of it.
        """
        epoll = self._open()
        room = limit + _OWN
        if timeout == 0:
            if _COARSE_CLOCK:
                # Readiness of its own ends the look; armed for once, it must be asked for again.
                epoll.modify(self._bell.fileno(), _OUT | _ONCE)
            return self._strip(epoll.poll(0, room))
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            events = self._strip(self._sleep(epoll, _duration(timeout), room))
            if events:
                return events
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    return events

    def _sleep(self, epoll: _Epoll, duration: float, room: int) -> list[Event]:
        """Wait; in the main thread, which runs the handlers, so that signals interrupt it."""
        if get_ident() != main_thread().ident:
            return epoll.poll(duration, room)
        others = -1
        try:
            others = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
            return epoll.poll(duration, room)
        finally:
            signal.set_wakeup_fd(others)

    def _strip(self, events: list[Event]) -> list[Event]:
        """Take out what is the poller's own."""
        if self._looked in events:
            events.remove(self._looked)
        if self._rung in events and self._hear():
            events.remove(self._rung)
        # What is left of it where the pair is broken is an event of nobody's, and for such the
        # selector takes a new poller.
        return events

    def _hear(self) -> bool:
        """Empty the ear; return whether it hears."""
        try:
            return bool(self._ear.recv(4096))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def probe(self, fd: int, interest: int, /) -> int:
        """Answer with one select of the socket alone."""
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
        """Close the completion port, and the socket pair."""
        epoll, self._epoll = self._epoll, None
        if epoll is None:
            return
        if self._threads - {get_ident()}:
            for fd in self._watched:
                with contextlib.suppress(OSError):
                    epoll.unregister(fd)
            # Nothing tells when the driver has given back the last request.
            epoll.poll(_FAREWELL, _OWN)
        epoll.close()
        self._bell.close()
        self._ear.close()


def _duration(timeout: float | None) -> float:
    """Return how long the binding is to wait, in its words: -1 for ever, and never to a tick."""
    if timeout is None:
        return -1
    if math.isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    return timeout + _PAST_THE_TICK


# The clock ticks in whole milliseconds.
_PAST_THE_TICK = 1e-6
_COARSE_CLOCK = time.get_clock_info("monotonic").resolution > 1e-3

# Seconds; measured under Wine, where 0 corrupts the heap.
_FAREWELL = 0.02

_IN: int = wepoll.EPOLLIN
_OUT: int = wepoll.EPOLLOUT
_ONCE: int = wepoll.EPOLLONESHOT
# No entry for 0: on an empty mask hang-ups and errors are still reported, at every wait.
_MASK = {READ: _IN, WRITE: _OUT, BOTH: _IN | _OUT}

# How many events may be the poller's own.
_OWN = 2

"""wepoll: the interface of epoll on the completion ports of Windows, for sockets."""

from __future__ import annotations

import contextlib
import sys
import time
from threading import get_ident
from typing import Protocol

import wepoll  # type: ignore[import-not-found,import-untyped,unused-ignore]

from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE, Event
from tofu_aio.reactor.pollers.windows import SocketPoller, refuse_no_socket

assert sys.platform == "win32"  # for the type checker


class _Epoll(Protocol):
    """The methods of `wepoll.epoll` that are used here."""

    def register(self, fd: int, mask: int, /) -> None: ...
    def modify(self, fd: int, mask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float, limit: int, /) -> list[Event]: ...
    def close(self) -> None: ...


class WepollPoller(SocketPoller):
    """Watches through `wepoll.epoll`, level-triggered: sockets only, but any number of them.

    For each socket handle wepoll remembers what is wanted, and keeps one request pending with the
    socket driver of the system. The driver reports over a completion port that a request has
    completed or that the socket was closed. From that, and from the source of wepoll's Python
    binding, follows what this class has to do:

    * wepoll remembers a handle that was closed, and perhaps reused, until a `wait` has read the
      driver's last report about it. That report would then remove the new socket as well. So a
      change removes the handle and adds it again, for the socket that has it now.
    * The driver writes into the memory of a request in the context of the thread that made it, even
      if another thread has closed wepoll meanwhile, which frees that memory. So if two threads have
      used wepoll, its handles are removed before it is closed, and the driver gets some time.
    * The binding waits until its deadline has *passed* on the monotonic clock, and until then asks
      again and again without waiting. Before Python 3.13 that clock ticks every 15.6 ms. So a wait
      that ends at a tick would use all of a processor until the next one, and so would each call
      with a timeout of 0. That end of the socket pair to which signals are written is always
      writable, and so ends such a call at once.
    """

    meaning = meanings(wepoll.EPOLLIN, wepoll.EPOLLOUT, wepoll.EPOLLERR, wepoll.EPOLLHUP)

    def __init__(self) -> None:
        super().__init__(_IN)
        self._always_ready: Event = self._signal_writer.fileno(), _OUT
        try:
            self._epoll: _Epoll | None = wepoll.epoll()
            self._epoll.register(self._signal_reader.fileno(), _IN)
            self._epoll.register(self._signal_writer.fileno(), _ONCE)
        except BaseException:
            super().close()
            raise
        # Only for `close`: the handles to remove, and the threads that have used wepoll.
        self._watched = {self._signal_reader.fileno(), self._signal_writer.fileno()}
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
        # wepoll accepts a handle that is no socket if the system does not refuse it (Wine). If it
        # does, wepoll reports an errno of C that Python does not know.
        refuse_no_socket(fd)
        try:
            epoll.register(fd, mask)
        except FileExistsError:
            # The handle was closed without `remove`, and reused.
            epoll.unregister(fd)
            epoll.register(fd, mask)
        self._watched.add(fd)

    def modify(self, fd: int, _armed: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_DEL and EPOLL_CTL_ADD, for the socket that has the handle now."""
        mask = _MASK[interest]
        epoll = self._open()
        epoll.unregister(fd)
        epoll.register(fd, mask)

    def remove(self, fd: int, _armed: int, /) -> None:
        """EPOLL_CTL_DEL. The result of a pending request is dropped."""
        self._watched.discard(fd)
        self._open().unregister(fd)

    def _ask(self, timeout: float | None, limit: int, /) -> list[Event]:
        """epoll_wait, in the order of the completion port: first come, first served."""
        epoll = self._open()
        if timeout is None:
            timeout = -1
        elif timeout:
            timeout += _PAST_THE_TICK
        elif _COARSE_CLOCK:
            # The poller's own socket is ready and ends the call at once. It is armed for one
            # event, so it must be armed again.
            epoll.modify(self._signal_writer.fileno(), _OUT | _ONCE)
        return epoll.poll(timeout, limit + _OWN)

    def _without_own(self, events: list[Event]) -> list[Event]:
        if self._always_ready in events:
            events.remove(self._always_ready)
        return super()._without_own(events)

    def close(self) -> None:
        """Close the completion port and the socket pair."""
        epoll, self._epoll = self._epoll, None
        if epoll is None:
            return
        if self._threads - {get_ident()}:
            for fd in self._watched:
                with contextlib.suppress(OSError):
                    epoll.unregister(fd)
            # There is no way to find out when the driver has returned the last request.
            epoll.poll(_DRIVER_TIME, _OWN)
        epoll.close()
        super().close()


# Seconds beyond the deadline, so that no wait ends at a tick: those are at whole milliseconds.
_PAST_THE_TICK = 1e-6
_COARSE_CLOCK = time.get_clock_info("monotonic").resolution > 1e-3

# Seconds for the driver to return its requests. Measured under Wine, where 0 corrupts the heap.
_DRIVER_TIME = 0.02

_IN: int = wepoll.EPOLLIN
_OUT: int = wepoll.EPOLLOUT
_ONCE: int = wepoll.EPOLLONESHOT
# No entry for 0: with an empty mask hang-ups and errors are still reported, in every wait.
_MASK = {READ: _IN, WRITE: _OUT, BOTH: _IN | _OUT}

# The number of events that may be those of the poller's own sockets.
_OWN = 2

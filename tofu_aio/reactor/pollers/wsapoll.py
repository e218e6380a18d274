"""WSAPoll: every Windows has it, and it keeps no state between calls."""

from __future__ import annotations

import contextlib
import ctypes
import math
import struct
import sys
from collections.abc import Iterable

from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE, Event
from tofu_aio.reactor.pollers.windows import SocketPoller, refuse_no_socket

assert sys.platform == "win32"  # for the type checker

# From winsock2.h: WSAPOLLFD (a socket, what is asked of it, what is said), and the flags.
_POLLFD = struct.Struct("Phh0P")
_IN, _OUT = 0x0100, 0x0010  # POLLRDNORM, POLLWRNORM
_ERR, _HUP, _NVAL = 0x0001, 0x0002, 0x0004
_MASK = {READ: _IN, WRITE: _OUT, BOTH: _IN | _OUT}


class WSAPollPoller(SocketPoller):
    """Watches through `WSAPoll`, level-triggered: sockets only, but any number of them.

    It needs no package, so it is for Pythons that wepoll has no wheel for. The cost of a call grows
    with the number of sockets. What this class has to do follows from Microsoft's page of WSAPoll,
    and from what it says under Wine:

    * The system has no registrations, so none can become stale. A handle that is closed without
      `remove` is reported as ready (POLLNVAL) until it is removed, and a handle that is reused is
      watched as the new socket.
    * There must be one valid socket at least. The poller's own always is.
    * Flags that are always reported must not be asked for (POLLERR, POLLHUP and POLLNVAL).
    * POLLHUP also means that the peer has only stopped writing, and is reported to code that waits
      to write, too. Alone it therefore means readable. Code that only writes must not spin on it,
      so its sockets are then looked at again and again, with pauses.
    * Before version 2004 of Windows 10 it does not report that a connect has failed. `select` does,
      so that is asked again and again while somebody waits to write.

    A call knows only what it began with. So a change ends it, by a byte in the poller's own socket.
    """

    meaning = meanings(_IN, _OUT, _ERR, _NVAL)
    meaning |= {mask | _HUP: means | READ for mask, means in meaning.items()}

    _reports_failed_connects = sys.getwindowsversion().build >= 19041

    def __init__(self) -> None:
        super().__init__(_IN)
        self._watched: dict[int, int] | None = {self._signal_reader.fileno(): _IN}
        self._array = _array(())
        self._maybe_failed: list[int] = []
        self._changed = True
        self._asking = False

    def _open(self) -> dict[int, int]:
        if self._watched is None:
            raise ValueError("I/O operation on closed poller")
        return self._watched

    def add(self, fd: int, interest: int, _generation: int, /) -> None:
        """Add the socket to the list."""
        watched = self._open()
        refuse_no_socket(fd)
        watched[fd] = _MASK[interest]
        self._note_change()

    def modify(self, fd: int, _armed: int, interest: int, _generation: int, /) -> None:
        """Change the mask of the socket."""
        self._open()[fd] = _MASK[interest]
        self._note_change()

    def remove(self, fd: int, _armed: int, /) -> None:
        """Remove the socket from the list."""
        del self._open()[fd]
        self._note_change()

    def _note_change(self) -> None:
        self._changed = True
        if self._asking:
            # If there is no room for another byte, those that are there end the call.
            with contextlib.suppress(BlockingIOError):
                self._signal_writer.send(b"\0")

    def _ask(self, timeout: float | None, _limit: int, /) -> list[Event]:
        """WSAPoll. The order is that of registration: it knows no other."""
        watched = self._open()
        # Before the look at `_changed`, so that a change that comes after it ends the call.
        self._asking = True
        try:
            if self._changed:
                self._changed = False
                self._update(list(watched.items()))
            array = self._array
            found = _poll(array, _pause(timeout) if self._maybe_failed else timeout)
            events = [
                (fd, said)
                for fd, asked, said in _POLLFD.iter_unpack(array)
                if said and (said != _HUP or asked & _IN)
            ]
            if found and not events:
                # Only peers that have stopped writing, of sockets that wait to write.
                rest = ((fd, asked) for fd, asked, said in _POLLFD.iter_unpack(array) if not said)
                _poll(_array(rest), _pause(timeout))
        finally:
            self._asking = False
        return events or [(fd, _OUT) for fd in self._maybe_failed if self.probe(fd, WRITE)]

    def _update(self, watched: list[tuple[int, int]]) -> None:
        self._array = _array(watched)
        if not self._reports_failed_connects:
            self._maybe_failed = [fd for fd, asked in watched if asked & _OUT]

    def close(self) -> None:
        """Drop the list, and close the socket pair."""
        self._watched = None
        super().close()


_wsapoll = ctypes.WinDLL("ws2_32", use_last_error=True).WSAPoll
_wsapoll.argtypes = ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int


def _poll(array: ctypes.Array[ctypes.c_char], timeout: float | None) -> int:
    """Have WSAPoll fill in what it says of each socket; return of how many it says anything."""
    milliseconds = -1 if timeout is None else math.ceil(timeout * 1000)
    found: int = _wsapoll(array, len(array) // _POLLFD.size, milliseconds)
    if found < 0:
        raise ctypes.WinError(ctypes.get_last_error())
    return found


def _array(asked: Iterable[tuple[int, int]]) -> ctypes.Array[ctypes.c_char]:
    packed = b"".join(_POLLFD.pack(fd, mask, 0) for fd, mask in asked)
    return ctypes.create_string_buffer(packed, len(packed))


def _pause(timeout: float | None) -> float:
    """Return how long to wait, at most, for what WSAPoll does not report."""
    return _PAUSE if timeout is None else min(timeout, _PAUSE)


_PAUSE = 0.01

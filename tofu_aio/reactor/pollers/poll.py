"""poll(2): every Unix has it, and it keeps no state between calls."""

from __future__ import annotations

import select
import sys

from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import READ, WRITE, Event

assert sys.platform != "win32"  # for the type checker


class PollPoller:
    """Watches through `select.poll`, which keeps the list that each call of poll(2) needs.

    The system has no registrations, so none can become stale. A number that is closed without
    `remove` is reported as ready (POLLNVAL) until it is removed, and a number that is reused is
    watched as the new file. The cost of a call grows with the number of descriptors.
    """

    meaning = meanings(
        select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLHUP, select.POLLNVAL
    )

    def __init__(self) -> None:
        self._poll: select.poll | None = select.poll()

    def _open(self) -> select.poll:
        if self._poll is None:
            raise ValueError("I/O operation on closed poller")
        return self._poll

    def add(self, fd: int, interest: int, _generation: int, /) -> None:
        """Add the descriptor to the list. poll(2) looks at it only in `wait`."""
        self._open().register(fd, _mask(interest))

    def modify(self, fd: int, _armed: int, interest: int, _generation: int, /) -> None:
        """Change the mask of the descriptor."""
        self._open().modify(fd, _mask(interest))

    def remove(self, fd: int, _armed: int, /) -> None:
        """Remove the descriptor from the list."""
        self._open().unregister(fd)

    def wait(self, timeout: float | None, _limit: int, /) -> list[Event]:
        """Wait as `Poller.wait` does. The order is that of registration: poll(2) knows no other."""
        return self._open().poll(None if timeout is None else timeout * 1000)

    def probe(self, fd: int, interest: int, /) -> int:
        """Ask poll(2) about the descriptor alone."""
        return probe(fd, interest)

    def close(self) -> None:
        """Drop the list."""
        self._poll = None


def probe(fd: int, interest: int) -> int:
    """Return which of `interest` is ready on `fd` now; nothing if `fd` is closed (POLLNVAL)."""
    one = select.poll()
    one.register(fd, _mask(interest))
    answer = one.poll(0)
    if not answer or answer[0][1] & select.POLLNVAL:
        return 0
    return PollPoller.meaning[answer[0][1]] & interest


def _mask(interest: int) -> int:
    return (select.POLLIN if interest & READ else 0) | (select.POLLOUT if interest & WRITE else 0)

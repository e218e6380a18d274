"""epoll(7): Linux."""

from __future__ import annotations

import select
import sys

from tofu_aio.reactor.pollers import poll
from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

assert sys.platform == "linux"  # for the type checker


class EpollPoller:
    """Watches through `select.epoll`, level-triggered.

    The kernel identifies a registration by the number *and* the open file, and drops it when the
    last copy of that file is closed (epoll(7), Q6). Two facts follow. A number that is closed and
    reused must be added again. And if a copy lives on, for example in a forked child, the old file
    stays watched under a number that names something else by now: a stale registration. As
    `select.epoll` returns nothing but the number, the events of the two cannot be told apart, and
    `remove` cannot reach the old one. A failing `remove` or `modify` is a sign of that.

    The kernel's ready list is a queue. Events are taken from its head, and descriptors that stay
    ready are put back at its tail. So those that did not fit into one answer come first in the
    next.
    """

    meaning = meanings(select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP)

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # epoll_wait(2), which rounds up to whole milliseconds. The method has the right signature
        # for `Poller.wait`, and a function around it would cost something in each turn of a loop.
        self.wait = self._epoll.poll

    def add(self, fd: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_ADD."""
        mask = _MASK[interest]
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:
            # The same open file was watched under this number before. The number was closed without
            # `remove`, a copy of the file lived on, and dup2 gave it the number again.
            self._epoll.modify(fd, mask)

    def modify(self, fd: int, _armed: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_MOD."""
        self._epoll.modify(fd, _MASK[interest])

    def remove(self, fd: int, _armed: int, /) -> None:
        """EPOLL_CTL_DEL."""
        self._epoll.unregister(fd)

    def probe(self, fd: int, interest: int, /) -> int:
        """Ask poll(2) about the descriptor alone."""
        return poll.probe(fd, interest)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()


_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
# No entry for 0: with an empty mask the kernel still reports hang-ups and errors, in every wait.
_MASK = {READ: _IN, WRITE: _OUT, BOTH: _IN | _OUT}

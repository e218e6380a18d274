"""epoll(7): Linux."""

from __future__ import annotations

import select
import sys

from tofu_aio.reactor.pollers import poll
from tofu_aio.reactor.pollers.masks import meanings
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

assert sys.platform == "linux"  # tells the type checker where this module exists


class EpollPoller:
    """Watches through `select.epoll`, level-triggered.

    The kernel keys a registration on the number *and* the open file behind it, and drops it when
    the last copy of that file closes (epoll(7), Q6). Two facts follow. A number that is closed and
    reused must be added anew. And where a copy lives on, in a forked child say, the old file stays
    watched under a number that means something else by now; `select.epoll` hands back nothing but
    the number, so the events of the two cannot be told apart, and `remove` cannot reach the old
    one. Whoever sees `remove` or `modify` fail must reckon with it.

    The kernel's ready list is a queue: it hands out from the head and puts what stays ready back
    at the tail, so what did not fit into one answer comes first in the next.
    """

    meaning = meanings(select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP)

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # epoll_wait(2), which rounds up to whole milliseconds. The method itself, as it is what
        # `Poller.wait` asks for: a function around it would cost each turn of a loop.
        self.wait = self._epoll.poll

    def add(self, fd: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_ADD."""
        mask = _MASK[interest]
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:
            # The same open file was watched under this number before, lost the number without
            # `remove`, lived on in a copy, and has come back to it (dup2). It is watched already.
            self._epoll.modify(fd, mask)

    def modify(self, fd: int, _armed: int, interest: int, _generation: int, /) -> None:
        """EPOLL_CTL_MOD."""
        self._epoll.modify(fd, _MASK[interest])

    def remove(self, fd: int, _armed: int, /) -> None:
        """EPOLL_CTL_DEL."""
        self._epoll.unregister(fd)

    def probe(self, fd: int, interest: int, /) -> int:
        """Answer with one poll(2) of the descriptor alone."""
        return poll.probe(fd, interest)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()


_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
# No entry for 0: on an empty mask the kernel goes on reporting hang-ups and errors, at every wait.
_MASK = {READ: _IN, WRITE: _OUT, BOTH: _IN | _OUT}

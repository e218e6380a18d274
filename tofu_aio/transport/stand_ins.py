"""Dummy sockets that replace the parent's sockets in a forked child.

A child inherits copies of the sockets. What it writes to them reaches its parent's peers, and while
it keeps them open, a connection that its parent closes stays open for the peer. A stand-in takes
over the file descriptor's number, so that the loop, or a Python object that still uses this number,
does no harm.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from weakref import WeakSet

from .. import forks


def replace_connected(sockets: Iterable[socket.socket]) -> None:
    """Replace connected sockets by one whose peer has closed the connection."""
    _replace(sockets, _hung_up)


def replace_listening(sockets: Iterable[socket.socket]) -> None:
    """Replace listening sockets by one that never becomes readable."""
    _replace(sockets, _silent)


def _replace(sockets: Iterable[socket.socket], make: Callable[[], int]) -> None:
    numbers = {number for sock in sockets if (number := sock.fileno()) >= 0}
    if not numbers:
        return
    for number in numbers:
        os.close(number)  # before the stand-in is made: there may be no descriptor left for it
    stand_in = make()
    for number in numbers - {stand_in}:
        os.dup2(stand_in, number, inheritable=False)
    if stand_in not in numbers:
        os.close(stand_in)


def _hung_up() -> int:
    try:
        kept, closed = socket.socketpair()
        closed.close()
    except OSError:  # no two descriptors left; Linux reports a hang-up for this socket, too
        kept = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    kept.setblocking(False)
    return kept.detach()


def _silent() -> int:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock.detach()


connecting: WeakSet[socket.socket] = WeakSet()
"""Connected or connecting sockets that no ``Connection`` has a transport for yet."""

listening: WeakSet[socket.socket] = WeakSet()
"""Listening sockets."""

# Each set is replaced as a whole, by copies of one stand-in: there may be only a descriptor or two
# left.
forks.at_fork(after_in_child=lambda: replace_connected(list(connecting)))
forks.at_fork(after_in_child=lambda: replace_listening(list(listening)))

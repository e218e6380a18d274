"""Sockets that lead nowhere, which a forked child has in place of its parent's.

What a child inherits are copies: what it writes reaches its parent's peers, and while it lives
nothing that its parent closes is closed for them. A stand-in has the number of the copy, so whoever
still knows that number, be it the loop or an object of Python's, does no harm to anybody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from weakref import WeakSet

from .. import forks


def replace_connected(sockets: Iterable[socket.socket]) -> None:
    """Replace connections by one whose peer has hung up."""
    _replace(sockets, _hung_up)


def replace_listening(sockets: Iterable[socket.socket]) -> None:
    """Replace listeners by a socket that nothing ever comes to."""
    _replace(sockets, _silent)


def _replace(sockets: Iterable[socket.socket], make: Callable[[], int]) -> None:
    numbers = {number for sock in sockets if (number := sock.fileno()) >= 0}
    if not numbers:
        return
    for number in numbers:
        os.close(number)  # first, for room: there may be no descriptor to spare
    stand_in = make()
    for number in numbers - {stand_in}:
        os.dup2(stand_in, number, inheritable=False)
    if stand_in not in numbers:
        os.close(stand_in)


def _hung_up() -> int:
    try:
        ours, theirs = socket.socketpair()
        theirs.close()
    except OSError:  # no two descriptors to spare; Linux says of this one that it has hung up, too
        ours = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    ours.setblocking(False)
    return ours.detach()


def _silent() -> int:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock.detach()


connecting: WeakSet[socket.socket] = WeakSet()
"""What no connection knows a transport of yet."""

listening: WeakSet[socket.socket] = WeakSet()

# Each all at once, with one stand-in: there may be no more than a descriptor or two to spare.
forks.at_fork(after_in_child=lambda: replace_connected(list(connecting)))
forks.at_fork(after_in_child=lambda: replace_listening(list(listening)))

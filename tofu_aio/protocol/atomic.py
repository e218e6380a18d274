"""What must happen in one step, whatever other threads do; with the GIL and without it.

Threads share little here, and hold no lock for what each message costs. Instead the code counts on
single operations of built-in types, in the middle of which no other thread sees anything: with the
GIL because they run no Python code, without it because each of these types locks its object.

* ``deque.append``, ``pop``, ``popleft`` and ``extend`` by a tuple: the pool's permits, the reserves
  and what came back of them, bytes given back to the joining room, calls put for an engine's loop,
  the loop's own queue.
* ``list.append``, ``pop``, ``insert``, ``extend`` by a tuple, and assignment to an index: what a
  channel's messages hold.
* Reading and writing one entry of a dictionary or set, or one attribute.
* ``next`` of an ``itertools.count``: the ids of messages.

Two of them are two steps, and another thread may come in between. Where that matters there is a
claim that only one can make (``RevocableCall``, ``NumberedTable``, ``Threads``), or an order in which
each side acts before it looks at what the other side does (``Pool``, ``ReadGate``, ``CallQueue``,
``WakingLoop``), see ``see_all``.

With the GIL there is more that no thread can interrupt: a few operations without a call or a loop
among them. What relies on that has a second way for builds without it, and all of it is here.
"""

from __future__ import annotations

import sysconfig
import threading
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this Python is built to run without the GIL, whether or not it does."""

ONE_AT_A_TIME: Final = threading.RLock()
"""Held, on a free-threaded build, for a few operations that the GIL makes one step. No call is made
under it, and it is reentrant all the same: a finalizer may come at any moment."""


def withdraw(claims: dict[int, T], claim: T) -> None:
    """Take a claim out of where ``claims.setdefault`` has put it, if it has. Repeatable.

    Whoever made it may have been interrupted before knowing where that was.
    """
    for place, whose in list(claims.items()):  # copied in one step: others claim meanwhile
        if whose is claim:
            del claims[place]


class Queue(Protocol):
    """A deque, of whatever."""

    def rotate(self, n: int, /) -> None:
        """With 0: lock it and change nothing."""


def see_all(*queues: Queue) -> None:
    """Make sure that what other threads have put in is seen, and that they see what was done here.

    Each side acts first and looks then: one gives back and looks who waits, the other begins to
    wait and looks what was given back. Without the GIL a processor may let a look overtake an act,
    of both sides at once. But a deque is locked to be changed, and here it is locked too, only to
    be left as it is: so either this look comes after that act, or that look after this act.
    """
    for queue in queues:
        queue.rotate(0)

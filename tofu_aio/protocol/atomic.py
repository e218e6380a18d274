"""Operations that are atomic for all threads, with the GIL and without it.

Threads share little in this package, and no lock is held for what happens once per message.
Instead the code relies on single operations of built-in types, which other threads see either done
or not done: with the GIL because they run no Python code, without it because each of these types
locks its object.

* ``deque.append``, ``pop``, ``popleft`` and ``extend`` by a tuple, its length and one entry: the
  permits of the pool, the reserves and those that came back, bytes given back to the joining room,
  calls queued for an engine's loop, the loop's own queue. Not ``copy``, nor a list or tuple of a
  deque: without the GIL, these raise RuntimeError if another thread changes it meanwhile.
* ``list.append``, ``pop``, ``insert``, ``extend`` by a tuple, and assignment to an index: what the
  messages of a channel hold.
* Reading or writing one entry of a dictionary or set, or one attribute.
* ``next`` of an ``itertools.count``: the ids of messages.

Two of them are two steps, and another thread may come in between. Where that matters there is a
claim that only one can make (``RevocableCall``, ``NumberedTable``, ``Threads``), or an order in
which each side acts before it looks at what the other side does (``Pool``, ``ReadGate``,
``CallQueue``, ``WakingLoop``), see ``see_all``.

The GIL makes more than that atomic: several operations in a row, if there is no call and no loop
among them. Code that relies on this has a second implementation for builds without the GIL, and
what it needs for that is in this module.
"""

from __future__ import annotations

import sysconfig
import threading
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this Python was built to run without the GIL, even if it runs with it now."""

ONE_AT_A_TIME: Final = threading.RLock()
"""Held, on a free-threaded build, for a few operations that the GIL would make atomic. No call is
made while it is held. It is reentrant nevertheless, because a finalizer may run at any moment."""


def withdraw(claims: dict[int, T], claim: T) -> None:
    """Remove a claim from wherever ``claims.setdefault`` has put it. It may be called again.

    It searches, because the code that made the claim may have been interrupted before it knew the
    key.
    """
    for key, entry in list(claims.items()):  # copied atomically: other threads make claims
        if entry is claim:
            del claims[key]


class Queue(Protocol):
    """A deque of anything."""

    def rotate(self, n: int, /) -> None:
        """With 0, lock the deque and change nothing."""


def see_all(*queues: Queue) -> None:
    """Make what other threads have done visible here, and what was done here visible to them.

    Each side acts first and looks afterwards: one gives something back and looks for waiters, the
    other begins to wait and looks for things given back. Without the GIL, a processor may execute
    the look before the act, on both sides at once, and then neither side would notice the other.
    Changing a deque locks it, and this function locks it too, without changing it. So one of the
    two looks always comes after the act of the other side.
    """
    for queue in queues:
        queue.rotate(0)

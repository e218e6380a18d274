"""Credit: how many bytes a sender may send before its receiver has read them."""

from __future__ import annotations

from .limits import BUDGET, CHUNK_COST, FIRST_WINDOW, MAX_WINDOW, MIN_WINDOW


class Budget:
    """The unused credit of all channels of one connection to the broker.

    Attributes:
        free: bytes that may still be granted. It is below zero while many channels have their
            ``MIN_WINDOW``.
    """

    def __init__(self) -> None:
        self.free = BUDGET


class Window:
    """The credit that one receiver has granted to its sender.

    ``granted + unread`` never exceeds ``MAX_WINDOW``: that is all that the broker and this side
    hold of the channel in this direction.

    Args:
        budget: of the connection to the broker.

    Attributes:
        granted: bytes that the sender may still send.
        unread: bytes that have arrived, and were not read.
    """

    __slots__ = ("_budget", "_size", "granted", "unread")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = FIRST_WINDOW // 2
        self.granted = 0
        self.unread = 0

    def arrived(self, nbytes: int) -> bool:
        """Count a chunk with so many bytes. Return whether the sender had the credit for it."""
        cost = nbytes + CHUNK_COST
        if cost > self.granted:
            return False
        self.granted -= cost
        self.unread += cost
        self._budget.free += cost
        return True

    def read(self, nbytes: int, *, chunk: bool) -> None:
        """Count bytes that were read; ``chunk`` says whether they complete a chunk."""
        self.unread -= nbytes + (CHUNK_COST if chunk else 0)

    def grant(self) -> int:
        """Grant more, if it is worth a chunk. Return how many bytes."""
        held = self.granted + self.unread
        if 2 * held > self._size:
            return 0
        self._size = min(2 * self._size, MAX_WINDOW)  # the sender uses what it has
        more = min(self._size - held, self._budget.free)
        if more < MIN_WINDOW // 2:
            more = MIN_WINDOW - held  # no channel stops because of others
            if more < MIN_WINDOW // 2:
                return 0
        self.granted += more
        self._budget.free -= more
        return more

    def close(self) -> None:
        """Give the unused credit back to the budget."""
        self._budget.free += self.granted
        self.granted = 0

"""Local channel numbers: random, and not soon used again."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from ..protocol.atomic import withdraw
from ..protocol.binary_header import MAX_CHANNEL
from ..protocol.errors import AllocationFailed

T = TypeVar("T")

RESTING: Final = 1024
"""How many of the numbers closed last are not given out: a stale one must stay an error."""


class Claim:
    """A number that ``give_up`` can take back, by whoever may be interrupted before knowing it.

    Attributes:
        number: which one; 0 before there is one.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class NumberedTable(Generic[T]):
    """What lives under which number.

    A number that was just closed may still be in somebody's hands; had it a new owner already,
    a late message would go to the wrong peer. Random numbers make that visible early.

    Any thread may add, remove and look. Looking for a free number and taking it are two steps, and
    a lock may be kept by a thread that Ctrl-C interrupts: so whoever looks has claimed the number
    before, which is one step.
    """

    def __init__(self) -> None:
        self._living: dict[int, T] = {}
        self._resting: OrderedDict[int, None] = OrderedDict()
        self._claims: dict[int, Claim] = {}

    def add(self, entry: T) -> int:
        """Give the entry a number.

        Raises:
            AllocationFailed: all are taken.
        """
        claim = Claim()
        number = self.claim(entry, claim)
        self.settle(claim)
        return number

    def claim(self, entry: T, claim: Claim) -> int:
        """Give the entry a number that can be given up until it is settled.

        Raises:
            AllocationFailed: all are taken.
        """
        while len(self._living) + len(self._resting) < MAX_CHANNEL:
            # Fewer than two tries on average until half of the numbers are taken.
            number = random.randint(1, MAX_CHANNEL)  # noqa: S311 - not a secret
            if self._claims.setdefault(number, claim) is not claim:
                continue
            if number in self._living or number in self._resting:
                del self._claims[number]
                continue
            claim.number = number  # known before it is taken
            self._living[number] = entry
            return number
        raise AllocationFailed(
            f"{len(self._living)} channels are open and no number is left: close some"
        )

    def settle(self, claim: Claim) -> None:
        """The number is its entry's from now on. Repeatable."""
        withdraw(self._claims, claim)

    def give_up(self, claim: Claim) -> None:
        """The number is free again, if it was taken already. Before it is settled."""
        self._living.pop(claim.number, None)

    def get(self, number: int) -> T | None:
        """Who has this number now."""
        return self._living.get(number)

    def remove(self, number: int) -> None:
        """Close a number; it rests until 1024 others were closed after it.

        Raises:
            KeyError: nobody has it.
        """
        self._resting[number] = None  # first: it is never free in between
        try:
            del self._living[number]
        except KeyError:
            del self._resting[number]
            raise
        if len(self._resting) > RESTING:
            self._resting.popitem(last=False)

    def __len__(self) -> int:
        return len(self._living)

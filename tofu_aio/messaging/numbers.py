"""Local channel numbers, which are random and not reused soon."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from ..protocol.atomic import withdraw
from ..protocol.binary_header import MAX_CHANNEL
from ..protocol.errors import AllocationFailed

T = TypeVar("T")

RESERVED: Final = 1024
"""How many of the most recently closed numbers are not assigned: using one must be an error."""


class Claim:
    """A number that ``give_up`` can free again.

    The caller of ``claim`` may be interrupted before it receives the number, but has the claim.

    Attributes:
        number: the claimed number; 0 before there is one.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class NumberedTable(Generic[T]):
    """Entries by channel number.

    The application may still use a number that was just closed. If the number belonged to another
    channel already, a late message would go to the wrong peer. With random numbers such mistakes
    show up early.

    The methods may be called from any thread. Finding a free number and taking it are two steps,
    and a lock could stay locked for ever, if Ctrl-C interrupts the thread that holds it. So a
    thread claims a number, in one atomic step, before it checks whether the number is free.
    """

    def __init__(self) -> None:
        self._entries: dict[int, T] = {}
        self._reserved: OrderedDict[int, None] = OrderedDict()
        self._claims: dict[int, Claim] = {}

    def add(self, entry: T) -> int:
        """Assign a number to an entry.

        Raises:
            AllocationFailed: all numbers are in use.
        """
        claim = Claim()
        number = self.claim(entry, claim)
        self.settle(claim)
        return number

    def claim(self, entry: T, claim: Claim) -> int:
        """Assign a number to an entry. Until the claim is settled, ``give_up`` can free it again.

        Raises:
            AllocationFailed: all numbers are in use.
        """
        while len(self._entries) + len(self._reserved) < MAX_CHANNEL:
            # Fewer than two tries on average until half of the numbers are taken.
            number = random.randint(1, MAX_CHANNEL)  # noqa: S311 - not a secret
            if self._claims.setdefault(number, claim) is not claim:
                continue
            if number in self._entries or number in self._reserved:
                del self._claims[number]
                continue
            claim.number = number  # before the number is taken, so that ``give_up`` finds it
            self._entries[number] = entry
            return number
        raise AllocationFailed(
            f"{len(self._entries)} channels are open and no channel number is left: close some"
        )

    def settle(self, claim: Claim) -> None:
        """Keep the number for its entry from now on. May be called again."""
        withdraw(self._claims, claim)

    def give_up(self, claim: Claim) -> None:
        """Free the number, if it was taken already. To be called before the claim is settled."""
        self._entries.pop(claim.number, None)

    def get(self, number: int) -> T | None:
        """Return the entry with this number; None if there is none."""
        return self._entries.get(number)

    def remove(self, number: int) -> None:
        """Remove an entry. Its number is reserved until 1024 others have been closed after it.

        Raises:
            KeyError: there is no such entry.
        """
        self._reserved[number] = None  # first, so that the number is never free in between
        try:
            del self._entries[number]
        except KeyError:
            del self._reserved[number]
            raise
        if len(self._reserved) > RESERVED:
            self._reserved.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)

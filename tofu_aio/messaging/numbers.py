"""Local channel numbers: random, and not soon used again."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from ..protocol.binary_header import MAX_CHANNEL
from ..protocol.errors import AllocationFailed

T = TypeVar("T")

RESTING: Final = 1024
"""How many of the numbers closed last are not given out: a stale one must stay an error."""


class NumberedTable(Generic[T]):
    """What lives under which number.

    A number that was just closed may still be in somebody's hands; had it a new owner already,
    a late message would go to the wrong peer. Random numbers make that visible early.

    Any thread may add, remove and look.
    """

    def __init__(self) -> None:
        self._living: dict[int, T] = {}
        self._resting: OrderedDict[int, None] = OrderedDict()
        self._changing = threading.RLock()  # looking for a free number and taking it are two steps

    def add(self, entry: T) -> int:
        """Give the entry a number.

        Raises:
            AllocationFailed: all are taken.
        """
        with self._changing:
            if len(self._living) + len(self._resting) >= MAX_CHANNEL:
                raise AllocationFailed(
                    f"{len(self._living)} channels are open and no number is left: close some"
                )
            while True:
                # Fewer than two tries on average until half of the numbers are taken.
                number = random.randint(1, MAX_CHANNEL)  # noqa: S311 - not a secret
                if number not in self._living and number not in self._resting:
                    self._living[number] = entry
                    return number

    def get(self, number: int) -> T | None:
        """Who has this number now."""
        return self._living.get(number)

    def remove(self, number: int) -> None:
        """Close a number; it rests until 1024 others were closed after it.

        Raises:
            KeyError: nobody has it.
        """
        with self._changing:
            del self._living[number]
            self._resting[number] = None
            if len(self._resting) > RESTING:
                self._resting.popitem(last=False)

    def __len__(self) -> int:
        return len(self._living)

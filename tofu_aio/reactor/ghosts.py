"""Numbers under which a registration may have outlived its descriptor.

The kernel forgets a registration when the last copy of the open file closes, not when the number
does. Where a copy lives on, in a forked child say, the old file is still watched, under a number
that by now names nothing or something else. That is a ghost: no call reaches it, and its events
carry the number alone. Only a new poller is rid of it.
"""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 4
"""Doubtful answers, for each descriptor, that cost as much as to tell a new poller of it."""


class Ghosts:
    """Whom to doubt since a poller was made, and whether it is haunted.

    Attributes:
        numbers: What is said of these must be confirmed before it is believed.
    """

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self._seen = False
        self._doubtful_answers = 0

    def meet(self, fd: int) -> None:
        """Take note of an event that nobody asked for.

        One may be the system's mistake; two are a ghost's.
        """
        self._seen |= fd in self.numbers
        self.numbers.add(fd)

    def confirm(self, claimed: int, actual: int) -> int:
        """Return what to believe, given what was said and what the descriptor itself answers."""
        self._seen |= actual != claimed
        return actual

    def worth_a_new_poller(self, descriptors: int) -> bool:
        """Return, after an answer, whether to take a new poller: a change for each descriptor.

        Either a ghost has shown itself, or doubt has cost as much already: a program that closes
        before it unregisters leaves no ghosts, but whoever doubts must look at each event twice.
        """
        self._doubtful_answers += bool(self.numbers)
        return self._seen or self._doubtful_answers > PATIENCE * descriptors

"""Numbers under which a registration may have outlived its descriptor.

The kernel forgets a registration when the last copy of the open file closes, not when the number
does. Where a copy lives on, in a forked child say, the old file is still watched, under a number
that by now names nothing or something else. That is a ghost: no call reaches it, and its events
carry the number alone. Only a new poller is rid of it.
"""

from __future__ import annotations


class Ghosts:
    """Whom to doubt since a poller was made, and whether it is haunted.

    Attributes:
        numbers: What is said of these must be confirmed before it is believed.
    """

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self._seen = False
        self._checks = 0

    def meet(self, fd: int) -> None:
        """Take note of an event that nobody asked for.

        The first may be about a change that crossed it; the second is a ghost's.
        """
        self._seen |= fd in self.numbers
        self.numbers.add(fd)

    def confirm(self, claimed: int, actual: int) -> int:
        """Return what to believe, given what was said and what the descriptor itself answers."""
        self._checks += 1
        self._seen |= actual != claimed
        return actual

    def proven(self, descriptors: int) -> bool:
        """Return whether to take a new poller, which costs a change per registered descriptor.

        Either a ghost has shown itself, or as many checks have paid for it: a program that closes
        before it unregisters leaves no ghosts, and pays two calls an event at most.
        """
        return self._seen or self._checks > descriptors

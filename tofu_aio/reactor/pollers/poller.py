"""What a poller is: the least that a system must offer for the selector to stand on it.

A poller knows one system and nothing of who asks. It keeps no table: which descriptors are wanted,
and what was last told to the system, is the selector's to remember, and it passes it in.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
BOTH: Final = READ | WRITE

# A change that rode in a waiting call and that the system refused (kqueue's EV_ERROR), reported
# among the events because there is no call left to raise it from.
REFUSED: Final = 4

# The longest wait that every system takes in one call, in seconds: epoll_wait(2) and poll(2) count
# milliseconds in an int, which ends after 2,147,483 seconds.
LONGEST_WAIT: Final = 2_000_000.0

# A descriptor, and flags whose meaning the poller knows.
Event: TypeAlias = tuple[int, int]


class Poller(Protocol):
    """One system's way to watch descriptors, level-triggered.

    After `close` every other call raises ValueError, as a closed file does.
    """

    @property
    def meaning(self) -> Mapping[int, int]:
        """What the flags that `wait` returns say: READ, WRITE, both, or REFUSED.

        A hang-up or an error is both, so that it reaches whichever interest is registered; and so
        are flags that are missing here.
        """

    def add(self, fd: int, interest: int, generation: int, /) -> None:
        """Start to watch a descriptor that is not watched, at once.

        Succeeds too where the system still remembers this very descriptor from an earlier life.

        Args:
            fd: The descriptor.
            interest: READ, WRITE or both; never 0.
            generation: Grows with each registration the selector makes. A system that can keep it
                with the descriptor and hand it back drops what is said of an older one.

        Raises:
            OSError: The system refuses: EBADF for a closed descriptor, EPERM where it cannot be
                watched (a regular file under epoll), ENOSPC or ENOMEM where there is no room.
        """

    def modify(self, fd: int, armed: int, interest: int, generation: int, /) -> None:
        """Change what a watched descriptor is watched for, before the next `wait` at the latest.

        Args:
            fd: The descriptor.
            armed: What it was last asked to be watched for.
            interest: READ, WRITE or both; never 0.
            generation: As given to `add`.

        Raises:
            OSError: The system refuses; FileNotFoundError where it does not know the descriptor.
                A poller whose changes ride in `wait` reports REFUSED from there instead.
        """

    def remove(self, fd: int, armed: int, /) -> None:
        """Stop to watch a descriptor, at once; no later `wait` reports it.

        Args:
            fd: The descriptor.
            armed: What it was last asked to be watched for.

        Raises:
            OSError: The system does not know the descriptor: it was closed, or its number names
                another file now. A copy of the old file may still be watched.
        """

    def wait(self, timeout: float | None, limit: int, /) -> list[Event]:
        """Wait until a watched descriptor is ready, and say which are.

        In the order they became ready where the system knows it, and those that did not fit come
        before any of these come again. A Python signal handler that does not raise leaves the rest
        of the wait.

        Args:
            timeout: Seconds, from 0 to `LONGEST_WAIT`; None to wait for ever. At least this long
                passes before an empty answer.
            limit: How many descriptors are registered, and so could be ready at once; at least 1.
        """

    def probe(self, fd: int, interest: int, /) -> int:
        """Return which of `interest` is ready on a descriptor now, asking nothing but itself.

        Registrations play no part, so what the file of an earlier life of this number is ready
        for does not show. A descriptor that cannot be asked is ready for nothing.
        """

    def close(self) -> None:
        """Let go of the system's object; closing again does nothing."""

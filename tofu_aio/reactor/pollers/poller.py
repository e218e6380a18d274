"""What a poller is: the minimum that the selector needs of a system.

A poller knows one system interface, and nothing about its callers. It keeps no table: the selector
remembers which descriptors are watched and what the system was last told, and passes that in.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
BOTH: Final = READ | WRITE

# A change that was made within a waiting call and that the system has refused (EV_ERROR of kqueue).
# It is reported as an event, because the call that asked for the change has returned already.
REFUSED: Final = 4

# The longest wait in seconds that every system accepts in one call: epoll_wait(2) and poll(2) take
# milliseconds as an int, which is limited to 2,147,483 seconds.
LONGEST_WAIT: Final = 2_000_000.0

# A descriptor, and flags that `Poller.meaning` explains.
Event: TypeAlias = tuple[int, int]


class Poller(Protocol):
    """One system's way of watching descriptors, level-triggered.

    After `close` every other call raises ValueError, as for a closed file.
    """

    @property
    def meaning(self) -> Mapping[int, int]:
        """The meaning of the flags that `wait` returns: READ, WRITE, both, or REFUSED.

        A hang-up or an error means both, so that it reaches any interest that is registered. Flags
        that are missing here mean both, too.
        """

    def add(self, fd: int, interest: int, generation: int, /) -> None:
        """Start watching a descriptor that is not watched, at once.

        This also succeeds if the system still has a registration of this very descriptor.

        Args:
            fd: The descriptor.
            interest: READ, WRITE or both; never 0.
            generation: A number that grows with each registration that the selector makes. If the
                system can store it and return it with events, events of older ones are dropped.

        Raises:
            OSError: The system refuses: EBADF for a closed descriptor, EPERM for one that cannot be
                watched (a regular file with epoll), ENOSPC or ENOMEM if there is no room.
        """

    def modify(self, fd: int, armed: int, interest: int, generation: int, /) -> None:
        """Change what a descriptor is watched for. It takes effect in the next `wait` or before.

        Args:
            fd: The descriptor.
            armed: What it was last asked to be watched for.
            interest: READ, WRITE or both; never 0.
            generation: As given to `add`.

        Raises:
            OSError: The system refuses; FileNotFoundError if it does not know the descriptor. A
                poller that makes its changes in `wait` reports REFUSED there instead.
        """

    def remove(self, fd: int, armed: int, /) -> None:
        """Stop watching a descriptor, at once. No later `wait` reports it.

        Args:
            fd: The descriptor.
            armed: What it was last asked to be watched for.

        Raises:
            OSError: The system does not know the descriptor, because it was closed or its number
                now names another file. A copy of the old file may still be watched.
        """

    def wait(self, timeout: float | None, limit: int, /) -> list[Event]:
        """Wait until a watched descriptor is ready, and return those that are.

        They are in the order in which they became ready, if the system knows it. Those that did not
        fit come in the next answer, before any of this one. If a Python signal handler runs and
        does not raise, the wait continues.

        Args:
            timeout: Seconds, from 0 to `LONGEST_WAIT`; None waits without limit. An empty answer
                comes only after this time.
            limit: The number of descriptors that are registered, and so may be ready at once; at
                least 1.
        """

    def probe(self, fd: int, interest: int, /) -> int:
        """Return which of `interest` is ready now, by looking only at the descriptor itself.

        Registrations do not matter, so a stale registration of the same number has no influence. A
        descriptor that cannot be looked at is ready for nothing.
        """

    def close(self) -> None:
        """Close the object of the system. Closing again does nothing."""

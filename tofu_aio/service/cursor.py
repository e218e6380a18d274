"""A subscriber's place in a topic."""

from __future__ import annotations

import asyncio
from typing import Generic, NamedTuple, TypeVar

from .ring import Entry, Ring

T = TypeVar("T")


class Event(NamedTuple, Generic[T]):
    """A message of a topic, at a subscriber.

    Attributes:
        value: what was published.
        number: of the message. Messages are numbered from 1, in the order of publishing.
        missed: how many messages before this one the subscriber did not get, usually 0; None if
            nobody knows, because the publisher was restarted and numbers its messages anew.
        epoch: the run of the publisher that the number belongs to.
    """

    value: T
    number: int
    missed: int | None
    epoch: str


class Cursor:
    """A subscriber's place in a topic.

    Args:
        ring: of the topic.
        taken: the number of the message before the first one that it gets.

    Attributes:
        taken: the number of the last message that it has taken.
        skipped: how many messages it has missed.
        held: the message that it has taken in part; None if there is none.
        error: why it gets no more; None while it does.
    """

    def __init__(self, ring: Ring, taken: int) -> None:
        self._ring = ring
        self._wake_up: asyncio.Future[None] | None = None  # while its task waits
        self.taken = taken
        self.skipped = 0
        self.held: Entry | None = None
        self.error: Exception | None = None

    def next(self) -> Entry | None:
        """The next message; None if it has all. Messages that have left the ring are left out.

        Raises:
            Exception: it gets no more.
        """
        if self.error is not None:
            raise self.error
        ring = self._ring
        number = self.taken + 1
        if number > ring.last:
            return None
        return ring[max(number, ring.first)]

    def missed(self, entry: Entry) -> int:
        """How many messages it misses, if it takes this one next."""
        return entry.number - self.taken - 1

    def take(self, entry: Entry) -> None:
        """Note that it has taken a message."""
        self.skipped += entry.number - self.taken - 1
        self.taken = entry.number
        self._ring.was_taken(entry.number)

    def end(self, error: Exception) -> None:
        """Let it get no more, for this reason."""
        if self.error is None:
            self.error = error
        self.wake()

    def wake(self) -> None:
        """Wake its task."""
        waiting, self._wake_up = self._wake_up, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def sleep(self) -> None:
        """Wait until ``wake`` is called."""
        waiting = self._wake_up = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            self._wake_up = None

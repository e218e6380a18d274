"""Sends the messages of a topic to all subscribers that have room, without a task for each."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

FEEDS: Final = 100
"""Subscribers that are served in one turn of the loop. A message for 1,000 of them takes ten turns,
and other tasks run in between."""


class Pushed(Protocol):
    """A subscriber's feed."""

    def push(self) -> bool:
        """Send what there is room for now; return whether to go on in a later turn."""


class Pump:
    """Pushes feeds in rounds, each of which serves all feeds that have room.

    Attributes:
        feeds: those that are up to date, or have room for what they lack. A feed without room is
            not among them: a task of its own waits for room.
    """

    def __init__(self) -> None:
        self.feeds: dict[Pushed, None] = {}
        self._round: list[Pushed] = []  # those whose turn is still to come
        self._again = False  # another round is needed
        self._handle: asyncio.Handle | None = None

    def add(self, feed: Pushed) -> None:
        """Push a feed from now on.

        Raises:
            RuntimeError: as ``start``.
        """
        self.feeds[feed] = None
        self.start()

    def start(self) -> None:
        """Push all feeds soon.

        Raises:
            RuntimeError: no loop is running in this thread.
        """
        self._again = True
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def remove(self, feed: Pushed) -> None:
        """Push a feed no more."""
        self.feeds.pop(feed, None)
        if not self.feeds and self._handle is not None:
            self._handle.cancel()  # so that nothing is left of the loop when it ends
            self._handle = None

    def _turn(self) -> None:
        self._handle = None
        if not self._round:
            self._again = False
            self._round = list(self.feeds)
        for _ in range(min(FEEDS, len(self._round))):
            feed = self._round.pop()
            if feed in self.feeds and feed.push():
                self._again = True
        if self._round or self._again:
            self._handle = asyncio.get_running_loop().call_soon(self._turn)

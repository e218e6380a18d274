"""Noticing that the process of a peer has ended, while nothing is sent to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .chunk import PROBE, Chunk
from .limits import PROBE_INTERVAL, PROBE_RATE

PROBE_TOKEN = "0"  # noqa: S105 - of the inbox that no channel has
"""Where probes go, and where they come from."""


class Probed(Protocol):
    """A stream whose peer is probed."""

    peer: str

    def unheard(self) -> None:
        """Handle that the peer has gone."""


class Probes:
    """Asks the broker every few seconds whether each peer's connection still exists.

    The broker answers a message that has no receiver, and nobody answers another. All channels with
    the same process are probed together.

    Args:
        loop: the event loop.
        post: sends a chunk without payload from the inbox with this token.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, post: Callable[[str, str, Chunk], None]
    ) -> None:
        self._loop = loop
        self._post = post
        self._processes: dict[str, tuple[int, set[Probed]]] = {}  # by their inboxes, without tokens
        self._inboxes: dict[int, str] = {}  # the same, by the numbers of their probes
        self._round: deque[int] = deque()  # the numbers whose turn is next
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0

    def add(self, stream: Probed) -> None:
        """Probe the peer of one more stream."""
        inbox = stream.peer.rpartition(".")[0]
        if inbox not in self._processes:
            self._last += 1
            self._processes[inbox] = self._last, set()
            self._inboxes[self._last] = inbox
        self._processes[inbox][1].add(stream)
        self._set_timer()

    def discard(self, stream: Probed) -> None:
        """Forget a stream, and its process if it was the last one there."""
        inbox = stream.peer.rpartition(".")[0]
        if inbox not in self._processes:
            return
        number, streams = self._processes[inbox]
        streams.discard(stream)
        if not streams:
            del self._processes[inbox], self._inboxes[number]
        if not self._processes and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._round.clear()

    def unheard(self, number: int) -> None:
        """Handle that a probe had no receiver."""
        if (inbox := self._inboxes.get(number)) is not None:
            for stream in list(self._processes[inbox][1]):
                stream.unheard()

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(PROBE_INTERVAL, self._probe)

    def _probe(self) -> None:
        self._timer = None
        self._round = self._round or deque(self._inboxes)
        left = max(1, int(PROBE_RATE * PROBE_INTERVAL))
        while left and self._round:
            number = self._round.popleft()
            if (inbox := self._inboxes.get(number)) is not None:  # it is there still
                self._post(f"{inbox}.{PROBE_TOKEN}", PROBE_TOKEN, Chunk(PROBE, number))
                left -= 1
        if self._inboxes:
            self._set_timer()

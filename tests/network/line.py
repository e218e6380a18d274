"""One direction of a line between two machines: what it drops, delays, and lets overtake."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import asdict, dataclass, field
from typing import Final

OVERTAKEN: Final = 0.02
"""Seconds for which a packet is held back so that later ones overtake it."""

QUEUED: Final = 0.4
"""Seconds that a packet may wait for a slow line. One more is dropped, as a full queue does."""


@dataclass(frozen=True)
class Conditions:
    """How a line treats packets. By default it passes all of them at once.

    Attributes:
        lose: of each so many packets it drops one, at a random place; 0 for none.
        delay: seconds that each packet takes.
        jitter: seconds by which that varies, up and down. The order stays.
        rate: bits a second; 0 for any number.
        overtake: of each so many packets one is held back for ``OVERTAKEN``, so that those behind
            it overtake it; 0 for none.
        mtu: bytes that a packet may have; 0 for any number.
        cut: whether it drops everything.
    """

    lose: int = 0
    delay: float = 0.0
    jitter: float = 0.0
    rate: int = 0
    overtake: int = 0
    mtu: int = 0
    cut: bool = False


@dataclass
class Counts:
    """What a line did with packets.

    Attributes:
        passed: it let through.
        dropped: it lost, or had no room for.
        delayed: took ``delay`` and ``jitter``.
        queued: waited for others on a slow line.
        held_back: were held back until others had overtaken them.
        too_long: were refused for their length.
    """

    passed: int = 0
    dropped: int = 0
    delayed: int = 0
    queued: int = 0
    held_back: int = 0
    too_long: int = 0


@dataclass(order=True)
class _Waiting:
    at: float
    number: int
    packet: bytes = field(compare=False)


class Line:
    """Packets in one direction, from when they were read until they are written.

    Args:
        seed: decides which packets are lost and by how much delays vary.
    """

    def __init__(self, seed: str) -> None:
        self.conditions = Conditions()
        self.counts = Counts()
        self._luck = random.Random(seed)
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        self._places: dict[int, list[int]] = {}
        self._latest = 0.0  # when the last packet arrives, if it is not overtaken
        self._free = 0.0  # when a slow line has sent what it has

    def set(self, conditions: Conditions) -> None:
        """Treat packets in another way from now on."""
        self.conditions = conditions
        self._places.clear()

    def put(self, packet: bytes, now: float) -> None:
        """Take a packet."""
        conditions, counts = self.conditions, self.counts
        if conditions.cut or self._chosen(conditions.lose):
            counts.dropped += 1
            return
        at = now
        if conditions.rate:
            free = max(now, self._free)
            if free - now > QUEUED:
                counts.dropped += 1
                return
            counts.queued += free > now
            at = self._free = free + 8 * len(packet) / conditions.rate
        if conditions.delay:
            counts.delayed += 1
            at += conditions.delay + self._luck.uniform(-conditions.jitter, conditions.jitter)
        if self._chosen(conditions.overtake):
            counts.held_back += 1
            at += OVERTAKEN
        else:
            at = self._latest = max(at, self._latest)
        heapq.heappush(self._waiting, _Waiting(at, next(self._numbers), packet))

    def due(self, now: float) -> list[bytes]:
        """The packets that arrive by now, in their order."""
        arrived = []
        while self._waiting and self._waiting[0].at <= now:
            packet = heapq.heappop(self._waiting).packet
            # What is on a line when it is cut is lost with it.
            if self.conditions.cut:
                self.counts.dropped += 1
            else:
                self.counts.passed += 1
                arrived.append(packet)
        return arrived

    def next_at(self) -> float | None:
        """When the next packet arrives; None if there is none."""
        return self._waiting[0].at if self._waiting else None

    def counted(self) -> dict[str, int]:
        """The counts by their names."""
        return asdict(self.counts)

    def _chosen(self, of: int) -> bool:
        """Whether this is the packet of the next ``of`` that something happens to."""
        if not of:
            return False
        places = self._places.setdefault(of, [])
        if not places:
            chosen = self._luck.randrange(of)
            places += [int(place == chosen) for place in range(of)]
        return bool(places.pop())

"""What a service or a client counts."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds, in seconds, of the buckets that durations are counted in. One more bucket has
the longer ones."""

MAX_KINDS: Final = 4096
"""How many pairs of a name and a code are told apart. Further ones count as ``OTHER``: codes come
from the peer, which could otherwise fill the memory with them."""

OTHER: Final = "_other"
"""The name and the code of calls whose own ones are not told apart."""


@dataclass(slots=True)
class CallCounts:
    """The calls of one name that ended with one code.

    Attributes:
        calls: how many.
        seconds: how long all of them took together.
        buckets: how many took up to each of ``BUCKETS``, and how many longer; each call counts in
            one bucket.
    """

    calls: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


class Counts:
    """The calls of a service or a client, since it was made.

    Attributes:
        running: calls that are running now.
        ended_calls: the calls that ended, by name and code; ``ok`` is the code of success.
    """

    def __init__(self) -> None:
        self.running = 0
        self.ended_calls: dict[tuple[str, str], CallCounts] = {}

    def ended(self, name: str, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        counts = self.ended_calls.get((name, code)) or self._new(name, code)
        counts.calls += 1
        counts.seconds += seconds
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1

    def _new(self, name: str, code: str) -> CallCounts:
        kind = (name, code) if len(self.ended_calls) < MAX_KINDS else (OTHER, OTHER)
        return self.ended_calls.setdefault(kind, CallCounts())


class ServiceCounts(Counts):
    """The calls of a service.

    Attributes:
        queued: seconds that all calls together have waited for their turn.
        refusals: the calls that did not begin, by code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queued = 0.0
        self.refusals: dict[str, int] = {}

    def refused(self, code: str) -> None:
        """Count a call that did not begin."""
        self.refusals[code] = self.refusals.get(code, 0) + 1


class ClientCounts(Counts):
    """The calls of a client. One that was tried several times counts once.

    Attributes:
        connects: channels that were opened.
        retries: attempts beyond the first one of each call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.connects = 0
        self.retries = 0

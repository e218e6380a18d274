"""How long to wait before connecting again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from ..checks import checked_function, checked_number, checked_seconds
from .limits import BACKOFF_MAX, BACKOFF_MIN


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter: a random wait below a bound that grows.

    The growing bound makes a client that cannot connect try less and less often. The jitter keeps
    a thousand clients that lost the same server from connecting again at the same moment.

    Args:
        initial: the first bound, in seconds: 0.001 to 86,400.
        maximum: the highest bound, in seconds: ``initial`` to 86,400 (a day).
        factor: by which the bound grows with each failure, 1 or more.
        random: a function that takes a low and a high number and returns one between them.
            ``Random(seed).uniform`` makes the waits repeatable.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range. The message names
            it.
    """

    initial: float = 0.1
    maximum: float = 30.0
    factor: float = 2.0
    random: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        checked_seconds("initial", self.initial, BACKOFF_MIN, BACKOFF_MAX)
        checked_seconds("maximum", self.maximum, self.initial, BACKOFF_MAX)
        checked_number("factor", self.factor, 1, math.inf)
        checked_function("random", self.random)

    def bound(self, failures: int) -> float:
        """The longest wait in seconds after a failure; ``failures`` counts those before it."""
        try:
            return min(self.maximum, self.initial * float(self.factor) ** failures)
        except OverflowError:
            return self.maximum

    def wait(self, failures: int) -> float:
        """A random wait below ``bound(failures)``, in seconds."""
        return self.random(0.0, self.bound(failures))

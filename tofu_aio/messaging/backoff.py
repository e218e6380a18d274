"""How long to wait before trying again."""

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

    The bound makes a client that cannot connect try ever more seldom; the jitter keeps a thousand
    clients that lost the same server from coming back at the same moment.

    Args:
        initial: seconds, the first bound, 0.001 or more.
        maximum: seconds, which the bound never exceeds: ``initial`` or more, a day at most.
        factor: by which the bound grows with each failure, 1 or more.
        random: takes a low and a high and returns something between; ``Random(seed).uniform``
            makes the waits repeatable.

    Raises:
        TypeError, ValueError: the message says which of them makes no sense.
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
        """The longest wait, in seconds, after so many failures in a row, the first being 0."""
        try:
            return min(self.maximum, self.initial * float(self.factor) ** failures)
        except OverflowError:
            return self.maximum

    def wait(self, failures: int) -> float:
        """A random wait below that, in seconds."""
        return self.random(0.0, self.bound(failures))

"""How long to wait before trying again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter: a random wait below a bound that grows.

    The bound makes a client that cannot connect try ever more seldom; the jitter keeps a thousand
    clients that lost the same server from coming back at the same moment.

    Args:
        initial: seconds, the first bound.
        maximum: seconds, which the bound never exceeds.
        factor: by which the bound grows with each failure.
        random: takes a low and a high and returns something between; ``Random(seed).uniform``
            makes the waits repeatable.

    Raises:
        ValueError: the limits leave no wait, or one without end, or one that shrinks.
    """

    initial: float = 0.1
    maximum: float = 30.0
    factor: float = 2.0
    random: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum < math.inf:
            raise ValueError(
                f"waits that grow from {self.initial:g} to {self.maximum:g} s cannot be: "
                "give 0 < initial <= maximum"
            )
        if not 1 <= self.factor < math.inf:
            raise ValueError(f"waits cannot grow by a factor of {self.factor:g}: give 1 or more")

    def bound(self, failures: int) -> float:
        """The longest wait, in seconds, after so many failures in a row, the first being 0."""
        try:
            return min(self.maximum, self.initial * float(self.factor) ** failures)
        except OverflowError:
            return self.maximum

    def wait(self, failures: int) -> float:
        """A random wait below that, in seconds."""
        return self.random(0.0, self.bound(failures))

"""Whether something takes time in proportion, told without a limit of time."""

from __future__ import annotations

from collections.abc import Callable

ATTEMPTS = 10


def growth(cost: Callable[[int], float], small: int, large: int) -> float:
    """How many times as long the large one takes as the small one.

    What else the processor does lengthens a run, and never shortens one. So the shortest of several
    counts.
    """
    shortest = [float("inf"), float("inf")]
    for _ in range(ATTEMPTS):
        for index, size in enumerate((small, large)):
            shortest[index] = min(shortest[index], cost(size))
    return shortest[1] / shortest[0]

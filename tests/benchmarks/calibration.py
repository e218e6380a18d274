"""How fast the machine is: a fixed piece of Python, and a pair of system calls.

The bare protocol is mostly system calls, and a library in Python is mostly Python. So how near one
gets to the other says as much about the machine as about the library, and has to be read beside
these two figures. They are taken again in each round, because the speed of a machine that others
use as well changes.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from tests.benchmarks.results import Results, Spread

PASSES = 2_000
RUNS = 20

FAST = 400.0
"""Nanoseconds of a pass of the Python below. A machine that takes more is not a fast one for it.

The machine of the page on performance takes about 300."""


class Item:
    """What the fixed piece of Python makes."""

    __slots__ = ("number", "pair")

    def __init__(self, number: int, pair: tuple[int, int]) -> None:
        self.number = number
        self.pair = pair

    def sum(self) -> int:
        return self.number + self.pair[0]


def python() -> None:
    """Objects, tuples, a dict, attributes and calls, as in an ordinary program."""
    items: dict[int, Item] = {}
    total = 0
    for number in range(PASSES):
        item = Item(number, (number, total))
        items[number & 63] = item
        total = item.sum() & 1023


def least(step: Callable[[], None]) -> float:
    """Nanoseconds of one pass, in the run that was disturbed least."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter_ns()
        step()
        times.append(time.perf_counter_ns() - start)
    return min(times) / PASSES


def measure() -> dict[str, float]:
    """Nanoseconds of a pass of Python, and of a byte written to a pair of sockets and read."""
    one, other = socket.socketpair()

    def calls() -> None:
        for _ in range(PASSES):
            one.send(b"x")
            other.recv(1)

    with one, other:
        return {"python": least(python), "calls": least(calls)}


def is_fast(results: Results) -> bool:
    """Whether Python is fast here."""
    spread = speed(results, "python")
    return spread is not None and spread.median <= FAST


def speed(results: Results, figure: str) -> Spread | None:
    """One of the figures, over all rounds."""
    values = [round_[figure] for round_ in results.machine]
    return Spread.of(values) if values else None


def line(results: Results) -> str:
    """The machine in one line; nothing if nothing was measured."""
    python, calls = speed(results, "python"), speed(results, "calls")
    if python is None or calls is None:
        return ""
    return (
        f"this machine: {in_ns(python)} for a fixed piece of Python,"
        f" {in_ns(calls)} for a byte written to a pair of sockets and read"
    )


def in_ns(spread: Spread) -> str:
    """The middle, and both ends."""
    return f"{spread.median:,.0f} ns ({spread.lowest:,.0f} to {spread.highest:,.0f})"

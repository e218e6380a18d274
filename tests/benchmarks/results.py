"""What was measured, round by round, and how two of it compare."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

Figures = dict[str, float]
"""What one measurement gave: each figure by its name."""


class Subject(NamedTuple):
    """What a figure is of."""

    case: str
    contender: str
    loop: str


class Spread(NamedTuple):
    """The middle and the ends of what several rounds gave."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of at least one."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """All measurements.

    Attributes:
        rounds: of each subject, what each round gave; None where that round failed.
        machine: how fast the machine was in each round; see ``calibration``.
        failures: a line for each measurement that failed.
        left_out: a line for each thing that was asked for and not tried.
    """

    rounds: dict[Subject, list[Figures | None]] = field(default_factory=dict)
    machine: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, subject: Subject, figures: Figures | None) -> None:
        """What its next round gave."""
        self.rounds.setdefault(subject, []).append(figures)

    def spread(self, subject: Subject, name: str) -> Spread | None:
        """Of a figure, over all rounds that have it."""
        rounds = self.rounds.get(subject, [])
        values = [figures[name] for figures in rounds if figures and name in figures]
        return Spread.of(values) if values else None

    def ratio(self, name: str, of: Subject, to: Subject) -> Spread | None:
        """Of a figure of one subject to the other's in the same round."""
        return self._compare(name, of, to, lambda ours, theirs: ours / theirs)

    def difference(self, name: str, of: Subject, to: Subject) -> Spread | None:
        """Of a figure of one subject less the other's in the same round."""
        return self._compare(name, of, to, lambda ours, theirs: ours - theirs)

    def _compare(
        self, name: str, of: Subject, to: Subject, how: Callable[[float, float], float]
    ) -> Spread | None:
        pairs = zip(self.rounds.get(of, []), self.rounds.get(to, []), strict=False)
        values = [
            how(ours[name], theirs[name])
            for ours, theirs in pairs
            if ours and theirs and name in ours and name in theirs
        ]
        return Spread.of(values) if values else None

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "machine_rounds": self.machine,
            "measurements": [
                {**subject._asdict(), "rounds": rounds} for subject, rounds in self.rounds.items()
            ],
            "failures": self.failures,
            "left_out": self.left_out,
        }

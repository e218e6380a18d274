"""All measurements in turn, round after round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.benchmarks import calibration, processes
from tests.benchmarks.cases import Case
from tests.benchmarks.load import Load
from tests.benchmarks.measuring import MeasurementFailed, measure
from tests.benchmarks.results import Results, Subject
from tests.benchmarks.roster import Field


class Job(NamedTuple):
    """A measurement that every round has.

    Attributes:
        subject: whose figures it gives.
        load: what to do.
        tree: the folder of the tofu_aio to do it with.
    """

    subject: Subject
    load: Load
    tree: Path = processes.ROOT


def plan(cases: Sequence[Case], field: Field, seconds: float) -> Iterator[Job]:
    """Those that are compared with each other one after another."""
    for case in cases:
        for loop in field.loops:
            for contender in case.contenders:
                if contender in field.contenders:
                    load = case.load(contender, loop, seconds)
                    yield Job(Subject(case.title, contender, loop), load)


def run(jobs: Sequence[Job], rounds: int, console: Console, results: Results) -> None:
    """Do them all, and tell each that fails."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=rounds * len(jobs))
        for number in range(rounds):
            results.machine.append(calibration.measure())
            # There and back, so that nobody always comes after the same one.
            for job in reversed(jobs) if number % 2 else jobs:
                progress.update(task, description=" · ".join(job.subject))
                try:
                    figures = measure(job.load, job.tree)
                except MeasurementFailed as error:
                    figures = None
                    line = f"{', '.join(job.subject)}, round {number + 1}: {error}"
                    results.failures.append(line)
                    console.print(f"FAILED {line}")
                results.add(job.subject, figures)
                progress.advance(task)

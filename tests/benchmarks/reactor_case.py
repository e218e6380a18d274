"""The reactor beside the stock loop, event by event, as a case of the whole run."""

from __future__ import annotations

import json

from tests.benchmarks import processes
from tests.benchmarks.reactor_events import PROGRAMS, REGISTERED
from tests.benchmarks.results import Results, Subject

CONTENDER = "add_reader"

TITLES = {
    f"{program}, {registered:,} registered": (program, registered)
    for program in PROGRAMS
    for registered in REGISTERED
}
"""Each case, with the program and the number of descriptors that it is of."""


def run(results: Results, rounds: int, seconds: float) -> None:
    """In a process of its own, where nothing draws a progress bar on the processor's time."""
    process = processes.start("reactor_events", "--rounds", rounds, "--seconds", seconds, "--json")
    try:
        for title in TITLES:
            for costs in json.loads(processes.next_line(process)):
                for loop, cost in costs.items():
                    # Turned round, so that more is better, as a rate.
                    figures = {"events": 1e6 / cost, "cpu": cost}
                    results.add(Subject(title, CONTENDER, loop), figures)
    except RuntimeError as error:
        results.failures.append(f"reactor_events: {error}")
    finally:
        processes.end([process])

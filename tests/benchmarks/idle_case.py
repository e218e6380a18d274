"""Idle connections as a case of the whole run."""

from __future__ import annotations

from rich.console import Console
from rich.progress import track

from tests.benchmarks import idle
from tests.benchmarks.results import Results, Subject
from tests.benchmarks.roster import Field

TITLE = "idle connections"
STEPS = 5

VARIANT_OF = {
    "bare": "bare",
    "tofu": "tofu",
    "handled": "tofu",
    "tofu_compiled": "tofu_compiled",
    "handled_compiled": "tofu_compiled",
    "plain": "websockets",
    "websockets": "websockets",
}
"""Which contender each of those in ``idle`` is one of."""


def run(results: Results, field: Field, connections: int, console: Console) -> idle.SeenOf:
    """Add the bytes of one, on both sides, and return all that was seen."""
    seen: idle.SeenOf = {}
    jobs = [
        Subject(TITLE, variant, loop)
        for loop in field.loops
        for variant, contender in VARIANT_OF.items()
        if contender in field.contenders
    ]
    for subject in track(jobs, TITLE, console=console, transient=True):
        try:
            result = idle.measure(subject.contender, subject.loop, connections, STEPS)
        except RuntimeError as error:
            results.failures.append(f"{', '.join(subject)}: {error}")
        else:
            seen[subject.contender, subject.loop] = result
            sides = ("server", "client")
            results.add(subject, {side: 1024 * idle.slope(result, side) for side in sides})
    return seen

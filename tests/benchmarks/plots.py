"""The plots that the documentation shows of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import processes
from tests.benchmarks.cases import ONE, WINDOWS
from tests.benchmarks.load import PERCENTILES
from tests.benchmarks.results import Results, Subject
from tests.benchmarks.roster import CONTENDERS, Field

MARKS = "os^vD<>P*Xd"
"""A contender has the same one in all panels and plots, and so has it a color."""


def throughput(results: Results, field: Field, path: Path) -> None:
    """The window across, echoes a second up."""
    figure, panels = panels_of(field, "Echoes a second of 64 B, by the messages under way")
    for panel, loop in panels:
        for contender, look in lines(field):
            found = [
                (case.window, rates.median)
                for case in WINDOWS
                if (rates := results.spread(Subject(case.title, contender, loop), "rate"))
            ]
            if found:
                panel.plot(*zip(*found, strict=True), **look)
        panel.set(title=loop, xlabel="window", xscale="log", yscale="log")
        windows = [case.window for case in WINDOWS]
        panel.set_xticks(windows, list(map(str, windows)), minor=False)
        panel.minorticks_off()
    finish(figure, panels, "echoes a second", path)


def latency(results: Results, field: Field, path: Path) -> None:
    """Percentiles across, the time of a round trip up."""
    figure, panels = panels_of(field, "Round trip of 64 B, one message under way")
    names = [f"p{percent:g}" for percent in PERCENTILES]
    for panel, loop in panels:
        for contender, look in lines(field):
            subject = Subject(ONE.title, contender, loop)
            found = [results.spread(subject, name) for name in names]
            times = [spread.median for spread in found if spread]
            if len(times) == len(names):
                panel.plot(names, times, **look)
        panel.set(title=loop, xlabel="percentile", yscale="log")
    finish(figure, panels, "round trip, µs", path)


def panels_of(field: Field, title: str) -> tuple[Any, list[tuple[Any, str]]]:
    """A figure, and a panel for each loop."""
    figure, axes = processes.figure(len(field.loops), title)
    return figure, list(zip(axes if len(field.loops) > 1 else [axes], field.loops, strict=True))


def lines(field: Field) -> Iterator[tuple[str, dict[str, Any]]]:
    """Who is drawn, and how."""
    numbers = {name: number for number, name in enumerate(CONTENDERS)}
    for name, contender in CONTENDERS.items():
        if name in field.contenders:
            number = numbers[contender.plain or name]
            ours = contender.title.startswith("tofu")
            yield (
                name,
                {
                    "label": contender.title,
                    "color": f"C{number - 1}" if number else "black",
                    "marker": MARKS[number % len(MARKS)],
                    "markersize": 4,
                    "linewidth": 2.5 if ours else 1,
                    "linestyle": "--" if name == "bare" else ":" if contender.compiled else "-",
                },
            )


def finish(figure: Any, panels: list[tuple[Any, str]], up: str, path: Path) -> None:
    """Words around it, and into its file."""
    panels[0][0].set_ylabel(up)
    known = {
        label: handle
        for panel, _ in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=6)
    processes.write_svg(figure, path)

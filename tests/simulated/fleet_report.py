"""``python -m tests.simulated.fleet_report``: the tables and plots of docs/design/scale.md."""

from __future__ import annotations

import argparse
import asyncio
import math
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import processes
from tests.simulated.fleet import LOOK, NEARBY, WORK, Fleet, Load
from tofu_aio import testing

USES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.1)
"""Parts of what all processors can do."""

SECONDS = 2.0
"""How long each load lasts."""

AWAY = 1.0
"""Seconds until an instance that has crashed is back."""


class Report(NamedTuple):
    """What a fleet has gone through.

    Attributes:
        channels: that were open at the beginning.
        uses: the load at each of ``USES``.
        crash: a tenth of all instances crash at once.
        restart: as many are restarted, one after another.
    """

    channels: int
    uses: dict[float, Load]
    crash: Load
    restart: Load


async def report(fleet: Fleet, seconds: float) -> Report:
    """Take a fleet through all of it."""
    tenth = fleet.instances[: math.ceil(len(fleet.instances) / 10)]
    async with fleet.running():
        channels = fleet.channels
        uses = {use: await fleet.load(use, seconds) for use in USES}
        crashing = asyncio.create_task(fleet.load(0.5, 3 * AWAY))
        await asyncio.sleep(AWAY / 2)
        await asyncio.gather(*(instance.crash(AWAY) for instance in tenth))
        crash = await crashing
        # Draining one takes a second, for its callers to leave.
        restarting = asyncio.create_task(fleet.load(0.5, 1.2 * len(tenth)))
        for instance in tenth:
            await instance.restart()
        return Report(channels, uses, crash, await restarting)


def row(load: Load) -> list[str]:
    """The figures of a load, for a table."""
    failed = ", ".join(f"{number} {name}" for name, number in load.failures.items()) or "0"
    times = [f"{load.percentile(percent):,.0f}" for percent in (50, 99)]
    return [f"{load.calls:,}", *times, f"{load.most_running}", failed]


def draw(told: Report, folder: Path) -> None:
    """The plots."""
    figure, panel = processes.figure(1, "Calls of a fleet, by how much of it is used")
    for percent in (50, 99):
        times = [load.percentile(percent) for load in told.uses.values()]
        panel.plot(list(told.uses), times, marker="o", markersize=4, label=f"p{percent}")
    panel.axhline(WORK * 1000, color="gray", linestyle="--", label="the handler alone")
    panel.set(xlabel="work, as a part of what all instances can do", ylabel="ms", yscale="log")
    panel.legend()
    processes.write_svg(figure, folder / "fleet-load.svg")

    figure, panel = processes.figure(1, "A tenth of the instances are away from 0.5 s to 1.5 s")
    times = [look.time for look in told.crash.looks]
    other = panel.twinx()
    lines = [
        *panel.plot(times, [look.channels for look in told.crash.looks], label="open channels"),
        *other.plot(
            times, [look.connects for look in told.crash.looks], "C1", label="new channels"
        ),
        *other.plot(
            times, [look.failures for look in told.crash.looks], "C3", label="failed calls"
        ),
    ]
    panel.set(xlabel="seconds", ylabel="channels", ylim=(0, None))
    other.set(ylabel=f"in {LOOK * 1000:g} ms", ylim=(0, None))
    panel.legend(handles=lines, loc="center right")
    processes.write_svg(figure, folder / "fleet-crash.svg")


def main() -> None:
    """Print the tables, and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plots", type=Path, help="the folder for the plots; none by default")
    options = parser.parse_args()
    world = testing.World(options.seed, NEARBY)
    told = world.run(report(Fleet(world, options.instances, options.programs), SECONDS))
    loads = {f"{use:.0%} used": load for use, load in told.uses.items()}
    loads |= {"a tenth crashes": told.crash, "a tenth is restarted in turn": told.restart}
    columns = [f"{told.channels:,} channels", "calls", "p50, ms", "p99, ms", "at once", "failed"]
    print(processes.markdown(columns, [[name, *row(load)] for name, load in loads.items()]))
    if options.plots is not None:
        draw(told, options.plots)


if __name__ == "__main__":
    main()

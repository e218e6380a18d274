"""Runs the scenario of each of many seeds, in as many processes as there are processors."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulated.calls import calls
from tests.simulated.failed_once import FAILED_ONCE
from tests.simulated.scenario import network_of, scenario
from tofu_aio.core import COMPILED
from tofu_aio.testing import World

_CHUNK = 20
"""Seeds that a process gets at a time."""

_ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds; the exit code is 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="nox -s simulate --", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="number of seeds (default: 2000)")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--from", type=int, default=0, dest="first", help="the first seed (default: 0)"
    )
    begin.add_argument(
        "--drawn",
        action="store_true",
        help="draw the first seed from the commit's hash; run those that once failed before it",
    )
    parser.add_argument("--seed", type=int, help="run only this seed, and print its whole trace")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _show(options.seed, whole=True)
    if not options.drawn:
        return _run_all(range(options.first, options.first + options.seeds), options.first)
    first, why = drawn()
    print(
        f"{options.seeds} seeds from {first}, {why}, after {len(FAILED_ONCE)} that have failed once"
    )
    return _run_all([*FAILED_ONCE, *range(first, first + options.seeds)], first)


def drawn(root: Path = _ROOT) -> tuple[int, str]:
    """Return the first seed, drawn from the commit's hash, and a text that says so."""
    try:
        asked = ["git", "rev-parse", "HEAD"]
        git = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0, "because no commit is known here"
    commit = git.stdout.strip()
    return int(commit[:8], 16), f"drawn from the commit {commit}"


def _run_all(seeds: Sequence[int], first: int) -> int:
    began, virtual_time, ran = time.perf_counter(), 0.0, 0
    for count, virtual, failed in _runs(seeds):
        if failed is not None:
            return _show(failed, whole=False)
        virtual_time += virtual
        ran += count
    spent = time.perf_counter() - began
    print(
        f"{ran} seeds from {first}: all passed, {virtual_time:.0f} s of virtual time "
        f"in {spent:.1f} s, {ran * 60 / spent:.0f} runs a minute"
    )
    return 0


def _runs(seeds: Sequence[int]) -> Iterator[tuple[int, float, int | None]]:
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    if len(chunks) == 1:
        yield _run_chunk(chunks[0])
        return
    with ProcessPoolExecutor(os.cpu_count(), initializer=_prepare) as processes:
        try:
            yield from processes.map(_run_chunk, chunks)
        finally:
            processes.shutdown(cancel_futures=True)


def _prepare() -> None:
    logging.disable()  # it would have thousands of lost peers and refused connections
    gc.collect()
    gc.freeze()  # the runs do not look at the objects that are alive now


def _run_chunk(seeds: Sequence[int]) -> tuple[int, float, int | None]:
    """Return the number of seeds, their virtual time, and the first seed that failed."""
    virtual_time = 0.0
    for seed in seeds:
        # Services take five times as long: one seed in four is for them as well.
        for program in (scenario, calls) if seed % 4 == 0 else (scenario,):
            world = World(seed, network_of)
            try:
                world.run(program(world))
            except Exception:
                return len(seeds), virtual_time, seed
            virtual_time += world.time
    return len(seeds), virtual_time, None


def _show(seed: int, *, whole: bool) -> int:
    """Run one seed, and print its trace, its error, and the command that repeats it.

    Of its two programs, the one that fails is shown; if none does, both are.
    """
    failure = None
    for program in (scenario, calls):
        world = World(seed, network_of)
        try:
            world.run(program(world))
        except Exception as error:
            failure = error
        if whole or failure is not None:
            print(world.trace if whole else world.trace.last())
            print(f"\nthe network: {world.network}\n")
        if failure is not None:
            break
    if failure is None:
        print(f"seed {seed}: passed")
        return 0
    traceback.print_exception(failure, file=sys.stdout)
    print(f"\nseed {seed} failed; to repeat it, with the whole trace:")
    print(f"    {'' if COMPILED else 'TOFU_AIO_PURE=1 '}nox -s simulate -- --seed {seed}")
    return 1

"""Many seeds, each a run, in as many processes as there are processors."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulated.scenario import network_of, scenario
from tofu_aio.testing import World

_CHUNK = 20
"""Seeds that a process is given at a time."""


def main(arguments: list[str] | None = None) -> int:
    """Run them; the exit code is 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="nox -s simulate --", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many, 2000 if not given")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its whole trace")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _show(options.seed, whole=True)
    began, lived, ran = time.monotonic(), 0.0, 0
    for seeds, virtual, failed in _runs(range(options.first, options.first + options.seeds)):
        if failed is not None:
            return _show(failed, whole=False)
        lived += virtual
        ran += len(seeds)
    spent = time.monotonic() - began
    print(
        f"{ran} seeds from {options.first}: all well, {lived:.0f} s of virtual time "
        f"in {spent:.1f} s, {ran * 60 / spent:.0f} runs a minute"
    )
    return 0


def _runs(seeds: range) -> Iterator[tuple[range, float, int | None]]:
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
    logging.disable()  # lost peers and refused strangers by the thousand
    gc.collect()
    gc.freeze()  # what is alive now is not looked through in each run


def _run_chunk(seeds: range) -> tuple[range, float, int | None]:
    """The virtual seconds of these runs, and the seed of the first that has failed."""
    lived = 0.0
    for seed in seeds:
        world = World(seed, network_of)
        try:
            world.run(scenario(world))
        except Exception:
            return seeds, lived, seed
        lived += world.time
    return seeds, lived, None


def _show(seed: int, *, whole: bool) -> int:
    """Run one and show its trace, with what has failed and how to repeat it."""
    world = World(seed, network_of)
    failure = None
    try:
        world.run(scenario(world))
    except Exception as error:
        failure = error
    print(world.trace if whole else world.trace.last())
    print(f"\nthe network: {world.network}\n")
    if failure is None:
        print(f"seed {seed}: all well")
        return 0
    traceback.print_exception(failure, file=sys.stdout)
    print(f"\nseed {seed} failed; again, with the whole trace:")
    print(f"    nox -s simulate -- --seed {seed}")
    return 1

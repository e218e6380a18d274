"""Many seeds, each a run: ``python -m tests.simulated --seeds 2000``, or one: ``--seed 7``."""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
import traceback

from tests.simulated.scenario import network_of, scenario
from tofu_aio.testing import World


def main(arguments: list[str] | None = None) -> int:
    """Run them; the exit code is 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="nox -s simulate --", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many, 2000 if not given")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its whole trace")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed)
    began, lived = time.monotonic(), 0.0
    for seed in range(options.first, options.first + options.seeds):
        world = World(seed, network_of)
        try:
            world.run(scenario(world))
        except Exception:
            _tell(world)
            return 1
        lived += world.time
        del world
    spent = time.monotonic() - began
    print(
        f"{options.seeds} seeds from {options.first}: all well, {lived:.0f} s of virtual time "
        f"in {spent:.1f} s, {options.seeds * 60 / spent:.0f} runs a minute"
    )
    return 0


def _one(seed: int) -> int:
    world = World(seed, network_of)
    try:
        world.run(scenario(world))
    except Exception:
        print(world.trace)
        _tell(world, whole=True)
        return 1
    print(world.trace)
    print(f"seed {seed}: all well; {world.network}")
    return 0


def _tell(world: World, *, whole: bool = False) -> None:
    if not whole:
        print(world.trace.last())
    print(f"\nthe network: {world.network}\n")
    traceback.print_exc(file=sys.stdout)
    print(f"\nseed {world.seed} failed; again, with the whole trace:")
    print(f"    nox -s simulate -- --seed {world.seed}")


if __name__ == "__main__":
    logging.disable()  # lost peers and refused strangers by the thousand
    gc.collect()
    gc.freeze()  # what is alive now is not looked through in each run
    sys.exit(main())

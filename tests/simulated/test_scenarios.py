"""The real engine in simulated worlds: a few seeds here, thousands by ``nox -s simulate``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.breaking import Mutation, places
from tests.simulated.failed_once import FAILED_ONCE
from tests.simulated.mutations import MUTATIONS, SERVICE_MUTATIONS
from tests.simulated.scenario import network_of, scenario
from tofu_aio.testing import World

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("nothing_old_is_looked_through")


def run(seed: int) -> World:
    world = World(seed, network_of)
    try:
        world.run(scenario(world))
    except Exception as error:
        error.add_note(f"again: nox -s simulate -- --seed {seed}\n{world.trace.last()}")
        raise
    return world


@pytest.mark.parametrize("tens", range(6))
def test_every_promise_holds_in_each_of_ten_worlds(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        run(seed)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_seeds_that_have_failed_once_pass(seed: int) -> None:
    run(seed)


def test_the_same_seed_is_the_same_run() -> None:
    for seed in range(100, 110):
        first, second = run(seed), run(seed)
        assert str(first.trace) == str(second.trace)
        assert first.time == second.time
    assert str(run(111).trace) != str(run(112).trace)


PROGRAM = """
import sys
from tests.simulated.scenario import network_of, scenario
from tofu_aio.testing import World
for seed in range(20):
    world = World(seed, network_of)
    world.run(scenario(world))
    print(seed, world.time, world.checksum)
    print(world.trace)
"""


def test_it_is_so_in_every_process_however_it_hashes() -> None:
    """To the byte: the checksum includes all bytes, also the ids of messages."""
    printed = set()
    for hash_seed in ("0", "1", "4711"):
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )
        assert len(process.stdout) > 10_000
        printed.add(process.stdout)
    assert len(printed) == 1


@pytest.mark.parametrize(
    "mutation", [*MUTATIONS, *SERVICE_MUTATIONS], ids=lambda mutation: mutation.what
)
def test_each_mutation_can_be_applied(mutation: Mutation) -> None:
    """The text that it replaces occurs once, so the table of the design page can be made again."""
    assert len(places(mutation)) == 1

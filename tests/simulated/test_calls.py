"""Services and clients in simulated worlds: a few seeds here, thousands by ``nox -s simulate``."""

from __future__ import annotations

import pytest

from tests.breaking import Mutation
from tests.extras import WITHOUT_MSGSPEC

pytest.importorskip("msgspec", reason=WITHOUT_MSGSPEC)

from tests.simulated.calls import calls
from tests.simulated.mutations import SERVICE_MUTATIONS, tried
from tests.simulated.scenario import network_of
from tofu_aio.testing import World


def run(seed: int) -> World:
    world = World(seed, network_of)
    try:
        world.run(calls(world))
    except Exception as error:
        error.add_note(f"again: nox -s simulate -- --seed {seed}\n{world.trace.last()}")
        raise
    return world


@pytest.mark.parametrize("tens", range(3))
def test_every_call_ends_as_it_may_in_each_of_ten_worlds(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        run(seed)


def test_the_same_seed_is_the_same_run() -> None:
    first, second = run(7), run(7)
    assert str(first.trace) == str(second.trace)
    assert first.time == second.time


def test_a_mutation_is_detected() -> None:
    (mutation,) = [each for each in SERVICE_MUTATIONS if "error code" in each.what]
    assert isinstance(mutation, Mutation)
    assert tried(mutation, seeds=2)[0] is not None

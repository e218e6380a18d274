"""The properties of a simulated network."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulated.services import asked
from tofu_aio import testing
from tofu_aio.testing import Network


def test_bytes_may_come_one_by_one() -> None:
    network = Network(reads=(1, 1), writes=(1, 1), segments=(1, 1))
    assert testing.run(asked(), network=network) == b"ping"


@pytest.mark.parametrize(
    "wrong",
    [
        {"resets": 2.0},
        {"latency": (0.2, 0.1)},
        {"reads": (0, 10)},
        {"segments": (0.5, 10)},
        {"send_buffer": 0},
        {"stalls": float("nan")},
    ],
)
def test_a_network_that_is_not_valid_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Network(**wrong)  # type: ignore[arg-type]


def test_drawn_networks_differ() -> None:
    drawn = [Network.drawn(Random(seed)) for seed in range(50)]
    assert len(set(map(repr, drawn))) == 50
    assert any(network.resets for network in drawn)
    assert not any(Network.drawn(Random(seed), faults=False).resets for seed in range(50))

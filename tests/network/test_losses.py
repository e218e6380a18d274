"""What notices a loss and what does not: channels side by side on the same line."""

from __future__ import annotations

import pytest

from tests.network.faults import ShortPartition
from tests.network.limits import DEADLINE, PATIENCE
from tests.network.line import Conditions
from tests.network.machines import Network
from tests.network.programs import Program
from tests.network.promises import FULL, LOOPS
from tests.network.scene import Scene

_FORGETS = 2.5
"""Seconds after which a translation forgets an idle connection: some heartbeats."""

pytestmark = [
    pytest.mark.skipif(not FULL, reason="it has its time in the session network"),
    pytest.mark.parametrize("loop", LOOPS),
]


def test_a_partition_is_noticed_by_heartbeats_and_by_probes_of_an_idle_channel(
    network: Network, loop: str
) -> None:
    client = begun(network, loop)
    network.set(Conditions(cut=True))
    # What is not acknowledged is repeated, and where that happens nothing is probed.
    client.tell(f"busy {PATIENCE}")
    assert {client.expect("lost")["name"] for _ in range(2)} == {"beating", "probed"}
    network.set(Conditions())
    client.tell(f"plain {PATIENCE}")
    assert {client.expect("answered")["name"] for _ in range(2)} == {"busy", "plain"}


def test_heartbeats_and_probes_keep_a_translation_from_forgetting(
    network: Network, loop: str
) -> None:
    network.translate(_FORGETS)
    client = begun(network, loop)
    for name in "beating", "probed":
        client.tell(f"{name} {PATIENCE}")
        assert client.expect("answered")["name"] == name
    client.tell(f"plain {DEADLINE}")
    assert client.expect("timed out")["name"] == "plain"


def begun(network: Network, loop: str) -> Program:
    """The client of some channels, all of which are idle: nothing waits to be acknowledged."""
    scene = Scene(network, ShortPartition(), "several", loop)
    scene.begin()
    scene.client.tell("idle")
    scene.client.expect("done")
    return scene.client

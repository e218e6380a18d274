"""The network of a test; nothing of it stays, even of tests that were killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.network.machines import Network, missing, remove_leftovers


@pytest.fixture(scope="session")
def machines() -> None:
    """Skip where there can be no machines, and remove those of runs that were killed."""
    if missing():
        pytest.skip(missing())
    remove_leftovers()


@pytest.fixture
def network(machines: None, request: pytest.FixtureRequest) -> Iterator[Network]:
    """Two machines, and a line between them without faults."""
    with Network(request.node.name) as network:
        yield network

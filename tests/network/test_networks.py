"""What each feature promises while a real network fails: a test for each cell of the table."""

from __future__ import annotations

import pytest

from tests.network.faults import ROWS
from tests.network.machines import Network
from tests.network.promises import CELLS, LOOPS, Cell, check_of
from tests.network.scene import Scene


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_what_is_promised(network: Network, cell: Cell, loop: str) -> None:
    scene = Scene(network, ROWS[cell.fault].fault, cell.feature, loop)
    check_of(cell.feature, cell.promise)(scene)

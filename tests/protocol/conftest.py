"""What differs here from the other tests: nothing runs on a loop, so nothing can be left on one."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Instead of the check around each async test, which needs a loop for each."""

"""What tests of simulated worlds share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def nothing_old_is_looked_through() -> Iterator[None]:
    """Each run looks at all objects that are alive: exclude those of other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()

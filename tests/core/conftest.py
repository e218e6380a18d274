"""What these tests have in common: there is nothing to compare without the compiled core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.core.talking import Side
from tofu_aio.core import WHY_PLAIN


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests where plain Python runs."""
    if not WHY_PLAIN:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"there is nothing to compare: {WHY_PLAIN}"))


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """A channel, with either core."""
    side = Side(compiled=request.param)
    yield side
    await side.end()

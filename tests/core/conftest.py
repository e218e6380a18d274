"""What these tests have in common: there is nothing to compare without the compiled core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tofu_aio.core import WHY_PLAIN


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests where plain Python runs."""
    if not WHY_PLAIN:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"there is nothing to compare: {WHY_PLAIN}"))

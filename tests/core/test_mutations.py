"""The mistakes that ``mutations`` plants can be planted. To find them takes a compiler."""

from __future__ import annotations

import pytest

from tests.core.building import FOLDER, ROOT
from tests.core.mutations import MISTAKES, Mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_what_is_replaced_is_there_once(mistake: Mistake) -> None:
    source = (ROOT / FOLDER / mistake.file).read_text(encoding="utf-8")
    assert source.count(mistake.old) == 1
    assert (ROOT / "tests" / "core" / mistake.tests).exists()

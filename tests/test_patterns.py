"""The regular expressions of the package, on each Python that it is for."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tofu_aio"


def test_no_repeat_of_a_group_is_possessive() -> None:
    # Before Python 3.11.5 these match wrongly, so that no channel could be opened. An atomic group
    # around a greedy repeat means the same: CPython issues 100061 and 106052.
    possessive = re.compile(r"\)(?:[*+?]|\{[0-9,]*\})\+")
    sources = sorted(PACKAGE.rglob("*.py"))
    assert sources
    assert [path.name for path in sources if possessive.search(path.read_text("utf-8"))] == []

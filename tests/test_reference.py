"""The reference tells of every public name, and of none that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import tofu_aio as tofu
from tofu_aio import blocking, testing

PAGES = Path(__file__).parent.parent / "docs" / "reference"
ENTRY = re.compile(r"^\.\. auto(?:class|data|exception|function):: ([\w.]+)$", re.MULTILINE)
ALIAS = re.compile(r"^\.\. py:class:: (\w+)\n +:module: ([\w.]+)$", re.MULTILINE)

PUBLIC = {
    *(f"tofu_aio.{name}" for name in tofu.__all__),
    *(f"tofu_aio.{name}" for name in ("EventLoopPolicy", "install")),  # where asyncio has policies
    *(f"tofu_aio.blocking.{name}" for name in blocking.__all__),
    *(f"tofu_aio.testing.{name}" for name in testing.__all__),
    # What statistics() returns, and what counts are, which nobody has to import.
    *(
        f"tofu_aio.service.{name}"
        for name in (
            "counts.CallCounts",
            "counts.ClientCounts",
            "counts.ServiceCounts",
            "statistics.CallerStatistics",
            "statistics.HandlerStatistics",
            "statistics.Turns",
        )
    ),
    *(
        f"tofu_aio.reactor.statistics.{name}"
        for name in ("Changes", "LoopStatistics", "SelectorStatistics", "SlowestCallback")
    ),
}


def entries() -> Iterator[str]:
    """What stands on the pages of the reference."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        yield from ENTRY.findall(text)
        yield from (f"{module}.{name}" for name, module in ALIAS.findall(text))


def test_every_public_name_stands_in_the_reference_and_nothing_else() -> None:
    found = list(entries())
    assert PUBLIC - set(found) == set(), "is missing"
    assert set(found) - PUBLIC == set(), "is not public"
    assert len(found) == len(set(found)), "stands twice"

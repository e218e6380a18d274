"""Every Python block of the documentation runs; on one page each goes on where the last ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SNIPPET = "--8<--"
# These are shown whole, wait for Ctrl-C or for each other, and are run by test_examples.
EXAMPLES = {path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}


def python_blocks(page: Path) -> Iterator[Example]:
    """The blocks of a page that nothing else runs."""
    for block in Sybil([PythonCodeBlockParser()], pattern="*").parse(page).examples():
        if not block.parsed.startswith(SNIPPET) and block.parsed not in EXAMPLES:
            yield block


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES]
)
def test_the_python_of_a_page_runs(page: Path) -> None:
    for block in python_blocks(page):
        block.evaluate()


def test_there_are_blocks_to_run() -> None:
    assert {page.parent.name for page in PAGES if any(python_blocks(page))} == {
        "docs",
        "design",
        "howto",
    }


def test_every_example_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    hidden = {p.name for p in (ROOT / "examples").glob("*.py") if f"examples/{p.name}" not in shown}
    assert not hidden

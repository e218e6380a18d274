"""Every Python block of the documentation runs; on one page each goes on where the last ended."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from tests.transport.nats.brokers import missing, running

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SNIPPET = "--8<--"
BEYOND = ROOT / "docs" / "howto" / "beyond-one-machine.md"
HAS_FORK = hasattr(os, "fork")  # Windows has not
# These are shown whole, wait for Ctrl-C or for each other, and are run by test_examples.
EXAMPLES = {path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}


def python_blocks(page: Path) -> Iterator[Example]:
    """The blocks of a page that nothing else runs."""
    for block in Sybil([PythonCodeBlockParser()], pattern="*").parse(page).examples():
        if not block.parsed.startswith(SNIPPET) and block.parsed not in EXAMPLES:
            yield block


RUNNING = [page for page in PAGES if any(python_blocks(page))]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=[pytest.mark.forks]
            if HAS_FORK and "os.fork()" in page.read_text("utf-8")
            else [],
        )
        for page in RUNNING
        if page != BEYOND
    ],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_python_of_a_page_runs(page: Path) -> None:
    for block in python_blocks(page):
        if HAS_FORK or "os.fork()" not in block.parsed:
            block.evaluate()


@pytest.mark.skipif(sys.platform == "win32", reason="the page begins with a Unix socket")
def test_the_steps_beyond_one_machine_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one with a broker of this test, for users have started theirs by hand."""
    *before, last = python_blocks(BEYOND)
    for block in before:
        block.evaluate()
    assert "nats://" in last.parsed
    if (text := missing()) is not None:
        pytest.skip(text)
    with running() as broker:
        monkeypatch.setenv("BROKER", f"127.0.0.1:{broker.port}")
        last.evaluate()


def test_blocks_are_found_where_they_are() -> None:
    assert {page.parent.name for page in RUNNING} == {"docs", "design", "howto"}


def test_no_python_goes_by_another_name() -> None:
    for page in PAGES:
        languages = set(re.findall(r"^ *```+ *(\S+).*$", page.read_text("utf-8"), re.MULTILINE))
        directives = {"{eval-rst}", "{include}", "{toctree}"}
        others = {"text", "sh", "c", "ini", "dockerfile"}
        assert languages <= {"python", *others, *directives}, page.name


def test_every_example_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    hidden = {p.name for p in (ROOT / "examples").glob("*.py") if f"examples/{p.name}" not in shown}
    assert not hidden


def test_each_embedded_example_is_linked_for_who_reads_in_the_repository() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(rf'{SNIPPET} "(.*)"', text):
            link = Path(os.path.relpath(ROOT / name, page.parent)).as_posix()
            assert f'[`{name}`]({link})\n\n```python\n{SNIPPET} "{name}"\n```' in text, page.name

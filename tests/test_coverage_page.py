"""The page of proofs names tests that exist, says truly which need no loop, and is complete."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import tofu_aio as tofu

TESTS = Path(__file__).parent
DESIGN = TESTS.parent / "docs" / "design"
PAGE = (DESIGN / "coverage.md").read_text(encoding="utf-8")

# Those whose fixtures run an async test once for each loop.
ON_EVERY_LOOP = (TESTS / "transport", TESTS / "messaging", TESTS / "faults")


@cache
def written() -> dict[str, set[bool]]:
    """Whether a test runs on every loop, by its name; two modules may have one of the same name."""
    found: dict[str, set[bool]] = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                everywhere = isinstance(node, ast.AsyncFunctionDef) and any(
                    path.is_relative_to(folder) for folder in ON_EVERY_LOOP
                )
                found.setdefault(node.name, set()).add(everywhere)
    return found


@pytest.mark.parametrize("path", sorted(DESIGN.glob("*.md")), ids=lambda path: path.name)
def test_every_test_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", path.read_text(encoding="utf-8")))
    assert named <= written().keys()


def test_the_loops_are_stated_truly() -> None:
    there = written()
    for name, mark in re.findall(r"`(test_\w+)`(°?)", PAGE):
        assert (not mark) in there[name], name


def test_nothing_is_left_out() -> None:
    words = set(re.findall(r"\w+(?:\.py)?", PAGE))
    examples = {path.name for path in (TESTS.parent / "examples").glob("*.py")}
    names = {code.name for code in tofu.OpCode} | {status.name for status in tofu.Status}
    assert (names | examples) <= words

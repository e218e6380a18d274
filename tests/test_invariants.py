"""The list of what breaks the pool's promises is true of the code and the tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.breaking import Mutation, places
from tests.invariants import BREACHES, INVARIANTS, Breach, goes_red

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs/design/invariants.md"


def test_each_invariant_can_be_broken() -> None:
    assert {breach.number for breach in BREACHES} == set(INVARIANTS)


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.mutation.what)
def test_what_is_replaced_is_there_once_and_so_is_who_notices(breach: Breach) -> None:
    assert len(places(breach.mutation)) == 1
    file, _, name = breach.test.partition("::")
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not name or name in names


def test_the_page_has_them_all() -> None:
    page = PAGE.read_text("utf-8")
    for text in (*INVARIANTS.values(), *(breach.mutation.what for breach in BREACHES)):
        assert text in page


def test_one_of_them_goes_red_and_the_code_as_it_is_does_not() -> None:
    """What the whole table is made by."""
    breach = next(breach for breach in BREACHES if breach.test.startswith("protocol/test_account"))
    assert goes_red(breach.mutation, breach.test)
    unchanged = Mutation("nothing", breach.mutation.old, breach.mutation.old)
    assert not goes_red(unchanged, breach.test)

"""The page has the tables that the tests are made from, and the short form leaves out no row."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.network import promises, table
from tests.network.faults import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "networks.md"


@pytest.mark.parametrize("each", [table.promised, table.meanings, table.faults])
def test_the_page_has_each_table(each: object) -> None:
    assert callable(each)
    assert each() in PAGE.read_text("utf-8"), "python -m tests.network.table prints it"


def test_the_short_form_has_each_fault_and_each_feature() -> None:
    assert {fault for fault, _ in promises.SHORT} == ROWS.keys()
    assert {feature for _, feature in promises.SHORT} == promises.COLUMNS.keys()

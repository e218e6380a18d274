"""Tables of the page *When the network fails*: ``python -m tests.network.table`` prints them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from tests.network.faults import ROWS
from tests.network.promises import ALL_CELLS, COLUMNS, TABLE, check_of


def promised() -> str:
    """What each feature promises under each fault, in a word."""
    words = [[row.name, *TABLE[fault]] for fault, row in ROWS.items()]
    return _table(["the network", *COLUMNS.values()], words)


def meanings() -> str:
    """What the words mean: the docstrings of the functions that check them."""
    seen = dict.fromkeys((cell.feature, cell.promise) for cell in ALL_CELLS)
    rows = [
        [COLUMNS[feature], promise, _docstring(feature, promise)]
        for feature in COLUMNS
        for each, promise in seen
        if each == feature
    ]
    return _table(["feature", "word", "what is promised"], rows)


def faults() -> str:
    """What the faults are."""
    return _table(
        ["the network", "what happens in the tests"],
        [[row.name, row.here] for row in ROWS.values()],
    )


def _docstring(feature: str, promise: str) -> str:
    text = inspect.getdoc(check_of(feature, promise))
    assert text is not None
    return " ".join(text.split())


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(promised(), meanings(), faults(), sep="\n")

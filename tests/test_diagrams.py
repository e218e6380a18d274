"""The diagrams in the docs show what the tables say: no more, no less, and as they are now."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from tests.protocol.test_lifecycle import HUNG_UP_MOVES, LIFE, RECEIVED_MOVES, REGULAR, SENT_MOVES
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.op_code import OpCode

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "design" / "lifecycle.md").read_text(encoding="utf-8")
EDGE = re.compile(r" {4}(\w+) --> (\w+) : (.*)")


def edges(name: str) -> list[tuple[str, ...]]:
    """What a diagram of the page shows: from, to, and by what."""
    _, found, diagram = PAGE.partition(f"<!-- diagram: {name} -->")
    assert found
    return [match.groups() for match in EDGE.finditer(diagram.partition("<!-- end -->")[0])]


def test_the_page_was_redrawn_after_the_last_change_of_the_tables() -> None:
    redrawn = runpy.run_path(str(DOCS / "diagrams.py"))["redrawn"]
    assert redrawn(PAGE) == PAGE, "run: python docs/diagrams.py"


@pytest.mark.parametrize(
    ("side", "others"),
    [
        ("client", {State.HELLO_AWAITED, State.HELLO_HEARD}),
        ("server", {State.CONNECTING, State.HELLO_SENT}),
    ],
)
def test_a_channel_s_diagram_has_every_move_of_its_side_and_no_other(
    side: str, others: set[State]
) -> None:
    shown = Counter[tuple[str, int, State, State]]()
    hung_up = {}
    for before, after, label in edges(side):
        if label == "the peer hangs up":
            hung_up[State[before]] = State[after]
            continue
        verb, _, names = label.partition(" ")
        for name in names.split(", "):
            op_codes = REGULAR if name == "regular" else (OpCode[name],)
            shown.update((verb, int(op), State[before], State[after]) for op in op_codes)
    expected = Counter(
        (verb, op_code, state, after)
        for verb, table in (("send", SENT_MOVES), ("receive", RECEIVED_MOVES))
        for (state, op_code), after in table.items()
        if state in LIFE and state not in others
    )
    assert shown == expected
    assert hung_up == HUNG_UP_MOVES


def test_a_listener_s_diagram() -> None:
    assert edges("listener") == [
        ("OPENING", "LISTENING", "WELCOME_RESPONSE"),
        ("OPENING", "CLOSED", "WELCOME_RESPONSE with a failure"),
        ("LISTENING", "CLOSED", "post BYE_REQUEST"),
        ("LISTENING", "CLOSED", "post BYE_SIGNAL"),
    ]

"""The diagrams in the docs show what the tables say: no more, no less, and as they are now."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.protocol.test_lifecycle import HUNG_UP_MOVES, LIFE, RECEIVED_MOVES, REGULAR, SENT_MOVES
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.op_code import OpCode

DOCS = Path(__file__).parent.parent / "docs"
DESIGN = DOCS / "design"
SVG = "{http://www.w3.org/2000/svg}"


def edges(name: str) -> list[tuple[str, ...]]:
    """What a diagram of the page shows: from, to, and by what."""
    assert f"](lifecycle-{name}.svg)" in (DESIGN / "lifecycle.md").read_text(encoding="utf-8")
    moves = ElementTree.parse(DESIGN / f"lifecycle-{name}.svg").iter(f"{SVG}g")
    return [
        (move.attrib["data-from"], move.attrib["data-to"], label.text or "")
        for move in moves
        for label in move.iter(f"{SVG}text")
    ]


def test_the_diagrams_were_drawn_after_the_last_change_of_the_tables() -> None:
    drawn = runpy.run_path(str(DOCS / "diagrams.py"))["diagrams"]()
    there = {name: (DESIGN / name).read_text(encoding="utf-8") for name in drawn}
    assert drawn == there, "run: python docs/diagrams.py"


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

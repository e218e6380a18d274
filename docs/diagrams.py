"""Draws the state diagrams of ``design/lifecycle.md`` from the tables: ``python docs/diagrams.py``.

They are SVG files beside the page, so that the site and the repository show them without any
script. A test checks that the files show what the tables say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from xml.sax.saxutils import escape

from tofu_aio.protocol.lifecycle import (
    HUNG_UP,
    POST,
    RECEIVE,
    SEND,
    WELCOMED,
    ListenerState,
    State,
)
from tofu_aio.protocol.op_code import MessageType, OpCode

FOLDER: Final = Path(__file__).parent / "design"

Step: TypeAlias = tuple[Enum, str, Enum]
"""From a state, by what, to a state."""


def channel_steps(start: State) -> Iterator[Step]:
    """All moves of a channel whose life begins in this state."""
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop(0)
        for label, after in _moves(state):
            yield state, label, after
            if after not in seen:
                seen.add(after)
                todo.append(after)


def _moves(state: State) -> Iterator[tuple[str, State]]:
    """What leads out of a state, and where to."""
    for verb, table in (("send", SEND), ("receive", RECEIVE)):
        for after, names in _targets(table[state]).items():
            yield f"{verb} {names}", after
    if state in HUNG_UP:
        yield "the peer hangs up", HUNG_UP[state]


def _targets(moves: Mapping[OpCode, State]) -> dict[State, str]:
    """The messages that lead to each state. Regular ones are many, and always go together."""
    found: dict[State, list[str]] = {}
    for op_code, after in moves.items():
        regular = op_code.message_type is MessageType.REGULAR
        name = MessageType.REGULAR.value if regular else op_code.name
        if name not in found.setdefault(after, []):
            found[after].append(name)
    return {after: ", ".join(names) for after, names in found.items()}


def listener_steps() -> Iterator[Step]:
    """All moves of a listener."""
    for success, after in WELCOMED.items():
        label = "WELCOME_RESPONSE" if success else "WELCOME_RESPONSE with a failure"
        yield ListenerState.OPENING, label, after
    for state, moves in POST.items():
        for op_code, after in moves.items():
            yield state, f"post {op_code.name}", after


class Arrow(NamedTuple):
    """How to draw the moves from one state to another."""

    path: str
    label: tuple[float, float]
    anchor: str = "start"


HALF_WIDTH: Final = 66
HALF_HEIGHT: Final = 16
LINE: Final = 15

# The first two states of either side stand in the same places: the rest of a channel's life is the
# same. A state or a move that has no place here is an error, so the drawing is never incomplete.
BEGIN: Final = (380, 60)
GREETED: Final = (380, 140)
CHANNEL_PLACES: Final = {
    State.CONNECTING: BEGIN,
    State.HELLO_AWAITED: BEGIN,
    State.HELLO_SENT: GREETED,
    State.HELLO_HEARD: GREETED,
    State.OPEN: (380, 220),
    State.BYE_SENT: (200, 320),
    State.BYE_HEARD: (620, 320),
    State.BYE_CROSSED: (200, 410),
    State.BYE_ANSWERED: (90, 520),
    State.BYE_OWED: (270, 520),
    State.CLOSED: (500, 640),
}
DOWN_TO_GREETED: Final = Arrow("M380 76 V122", (390, 104))
DOWN_TO_OPEN: Final = Arrow("M380 156 V202", (390, 184))
CHANNEL_ARROWS: Final = {
    (State.CONNECTING, State.HELLO_SENT): DOWN_TO_GREETED,
    (State.HELLO_AWAITED, State.HELLO_HEARD): DOWN_TO_GREETED,
    (State.HELLO_SENT, State.OPEN): DOWN_TO_OPEN,
    (State.HELLO_HEARD, State.OPEN): DOWN_TO_OPEN,
    (State.OPEN, State.OPEN): Arrow("M446 212 C490 196 490 244 448 228", (490, 217)),
    (State.OPEN, State.BYE_SENT): Arrow("M340 236 L232 302", (270, 268), "end"),
    (State.OPEN, State.BYE_HEARD): Arrow("M430 236 L582 302", (528, 268)),
    (State.BYE_SENT, State.BYE_SENT): Arrow("M134 312 C90 296 90 344 132 328", (90, 324), "end"),
    (State.BYE_SENT, State.BYE_CROSSED): Arrow("M200 336 V392", (190, 369), "end"),
    (State.BYE_SENT, State.CLOSED): Arrow("M266 320 C510 326 512 500 510 622", (456, 376)),
    (State.BYE_HEARD, State.BYE_HEARD): Arrow("M686 312 C730 296 730 344 688 328", (730, 324)),
    (State.BYE_HEARD, State.CLOSED): Arrow("M620 336 C620 480 610 560 545 622", (622, 480)),
    (State.BYE_CROSSED, State.BYE_ANSWERED): Arrow("M168 426 L108 502", (128, 468), "end"),
    (State.BYE_CROSSED, State.BYE_OWED): Arrow("M222 426 L258 502", (250, 468)),
    (State.BYE_CROSSED, State.CLOSED): Arrow("M266 410 C440 412 464 520 474 622", (278, 402)),
    (State.BYE_ANSWERED, State.CLOSED): Arrow("M90 536 C90 620 240 650 432 650", (124, 588)),
    (State.BYE_OWED, State.CLOSED): Arrow("M270 536 C270 590 340 626 432 632", (296, 570)),
}
LISTENER_PLACES: Final = {
    ListenerState.OPENING: (230, 60),
    ListenerState.LISTENING: (130, 150),
    ListenerState.CLOSED: (230, 250),
}
LISTENER_ARROWS: Final = {
    (ListenerState.OPENING, ListenerState.LISTENING): Arrow("M205 76 L152 132", (160, 106), "end"),
    (ListenerState.OPENING, ListenerState.CLOSED): Arrow(
        "M262 76 C300 130 300 180 262 232", (298, 158)
    ),
    (ListenerState.LISTENING, ListenerState.CLOSED): Arrow("M148 166 L206 232", (160, 202), "end"),
}
STYLE: Final = """
    rect { fill: #fff }
    .state { stroke: #495057; stroke-width: 1.5 }
    .path { fill: none; stroke: #868e96; stroke-width: 1.5; marker-end: url(#tip) }
    .tip, .begin { fill: #868e96 }
    .end { fill: #fff; stroke: #868e96; stroke-width: 1.5 }
    text { fill: #212529; paint-order: stroke; stroke: #fff; stroke-width: 4 }
    .name { font-weight: 600; text-anchor: middle }"""


def drawn(
    title: str,
    size: tuple[int, int, int],
    steps: Iterable[Step],
    places: Mapping[Enum, tuple[int, int]],
    arrows: Mapping[tuple[Enum, Enum], Arrow],
) -> str:
    """A diagram as SVG, whose size is its left edge, width and height.

    All moves from one state to another share an arrow.
    """
    labels: dict[tuple[Enum, Enum], list[str]] = {}
    for before, label, after in steps:
        labels.setdefault((before, after), []).append(label)
    states = list(dict.fromkeys(state for pair in labels for state in pair))
    left, width, height = size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} 0 {width} {height}"',
        f'     width="{width}" height="{height}"',
        '     font-family="system-ui, sans-serif" font-size="13">',
        f"  <title>{escape(title)}</title>",
        f"  <style>{STYLE}",
        "  </style>",
        '  <marker id="tip" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="8" markerHeight="8"',
        '          orient="auto"><path class="tip" d="M0 0 L10 5 L0 10 z"/></marker>',
        f'  <rect x="{left}" width="{width}" height="{height}"/>',
        *_ends(places[states[0]], places[type(states[0])["CLOSED"]]),
    ]
    for (before, after), names in labels.items():
        path, (x, y), anchor = arrows[before, after]
        lines.append(f'  <g class="move" data-from="{before.name}" data-to="{after.name}">')
        lines.append(f'    <path class="path" d="{path}"/>')
        lines += [
            f'    <text x="{x}" y="{y + row * LINE}" text-anchor="{anchor}">{escape(name)}</text>'
            for row, name in enumerate(names)
        ]
        lines.append("  </g>")
    for state in states:
        x, y = places[state]
        lines.append(
            f'  <rect class="state" x="{x - HALF_WIDTH}" y="{y - HALF_HEIGHT}" rx="6"'
            f' width="{2 * HALF_WIDTH}" height="{2 * HALF_HEIGHT}"/>'
        )
        lines.append(f'  <text class="name" x="{x}" y="{y + 5}">{state.name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _ends(first: tuple[int, int], last: tuple[int, int]) -> list[str]:
    """The dot before the first state, and the ring after the last."""
    (x, y), (end_x, end_y) = first, last
    return [
        f'  <circle class="begin" cx="{x}" cy="{y - 44}" r="6"/>',
        f'  <path class="path" d="M{x} {y - 38} V{y - HALF_HEIGHT - 2}"/>',
        f'  <path class="path" d="M{end_x} {end_y + HALF_HEIGHT} V{end_y + 34}"/>',
        f'  <circle class="end" cx="{end_x}" cy="{end_y + 42}" r="7"/>',
        f'  <circle class="begin" cx="{end_x}" cy="{end_y + 42}" r="4"/>',
    ]


def diagrams() -> dict[str, str]:
    """The text of each file, by its name."""
    channel = (-40, 860, 700)
    return {
        "lifecycle-client.svg": drawn(
            "The states of a client's channel",
            channel,
            channel_steps(State.CONNECTING),
            CHANNEL_PLACES,
            CHANNEL_ARROWS,
        ),
        "lifecycle-server.svg": drawn(
            "The states of a server's channel",
            channel,
            channel_steps(State.HELLO_AWAITED),
            CHANNEL_PLACES,
            CHANNEL_ARROWS,
        ),
        "lifecycle-listener.svg": drawn(
            "The states of a listener",
            (0, 560, 310),
            listener_steps(),
            LISTENER_PLACES,
            LISTENER_ARROWS,
        ),
    }


if __name__ == "__main__":
    for name, text in diagrams().items():
        (FOLDER / name).write_text(text, encoding="utf-8")

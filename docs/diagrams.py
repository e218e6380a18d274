"""Draws the state diagrams of ``design/lifecycle.md`` from the tables: ``python docs/diagrams.py``.

Each diagram stands between two comments that name it; what is between them is replaced. A test
holds that the page shows what the tables say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

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

PAGE: Final = Path(__file__).parent / "design" / "lifecycle.md"

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


def drawn(start: Enum, steps: Iterator[Step]) -> str:
    """A diagram in Mermaid's language."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start.name}"]
    lines += [f"    {state.name} --> {after.name} : {label}" for state, label, after in steps]
    return "\n".join([*lines, "    CLOSED --> [*]", "```"])


def diagrams() -> dict[str, str]:
    """Every diagram by its name."""
    return {
        "client": drawn(State.CONNECTING, channel_steps(State.CONNECTING)),
        "server": drawn(State.HELLO_AWAITED, channel_steps(State.HELLO_AWAITED)),
        "listener": drawn(ListenerState.OPENING, listener_steps()),
    }


def redrawn(page: str) -> str:
    """The page with its diagrams as they should be."""
    for name, diagram in diagrams().items():
        begin, end = f"<!-- diagram: {name} -->", "<!-- end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert len(pattern.findall(page)) == 1, f"{PAGE} needs one place for {name}"
        page = pattern.sub(f"{begin}\n{diagram}\n{end}", page)
    return page


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

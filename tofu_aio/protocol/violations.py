"""The texts that say which rule of the protocol a peer's header breaks."""

from __future__ import annotations

from .lifecycle import State
from .op_code import OP_CODE_MASK, OP_CODES, OpCode
from .status import Status


def out_of_turn(verdict: Status, proto: int, state: State) -> str:
    """What is wrong with an op code that is not allowed now."""
    value = proto & OP_CODE_MASK
    if value >= len(OP_CODES):
        return f"op code {value} is unknown; the known ones are 0 to {len(OP_CODES) - 1}"
    name = OP_CODES[value].name
    if verdict is Status.INVALID_MORE_USAGE:
        return f"{name} has the more bit, which only REQUEST, RESPONSE and SIGNAL may have"
    if state is State.HELLO_SENT:
        return f"the peer sent {name} before it answered the Hello with HELLO_RESPONSE"
    if state is State.OVERHEARD:
        return f"{name} is never sent to a peer"
    return f"{name} is not allowed in the state {state.name.lower()}"


def wrong_id(op_code: OpCode, message_id: int, expected: int) -> str:
    """What is wrong with the id of a message, which should be ``expected``, or anything but 0."""
    rule = f"but needs {expected}, the id of its request" if expected else "reserved for heartbeats"
    return f"{op_code.name} has the message id {message_id}, {rule}"

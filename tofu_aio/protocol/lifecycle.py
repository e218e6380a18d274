"""The life of a channel as a table: what may be sent and received in each state, and what follows.

Both directions are one machine: a Bye that was sent changes what may be received. A listener has a
life, and a table, of its own. ``docs/diagrams.py`` draws all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from .op_code import MORE_BIT, OP_CODE_MASK, OP_CODES, PUBLIC_BITS, MessageType, OpCode
from .status import Status


class State(Enum):
    """Where a channel is in its life."""

    # Of its identity, for an Enum's own, in Python, would cost something for each chunk.
    __hash__ = object.__hash__

    CONNECTING = auto()
    """Client: no Hello sent yet."""
    HELLO_SENT = auto()
    """Client: the server has not answered."""
    HELLO_AWAITED = auto()
    """Server: the client has not introduced itself."""
    HELLO_HEARD = auto()
    """Server: the application has not decided."""
    OPEN = auto()
    """Both sides are equal."""
    BYE_SENT = auto()
    """We asked to close; the peer may still send, and answers last."""
    BYE_HEARD = auto()
    """The peer asked to close and sends no more; we may still send, and answer last."""
    BYE_CROSSED = auto()
    """Both asked at once; each owes an answer."""
    BYE_OWED = auto()
    """Both asked at once; only our answer is missing."""
    BYE_ANSWERED = auto()
    """Both asked at once; only the peer's answer is missing."""
    CLOSED = auto()
    """Nothing travels any more."""
    OVERHEARD = auto()
    """Not a channel's state: frames of a capture, from either side."""


class ListenerState(Enum):
    """Where a listener is in its life."""

    OPENING = auto()
    """Its address is being looked up and bound."""
    LISTENING = auto()
    """Clients may come."""
    CLOSED = auto()
    """Nobody comes any more; the channels that it brought live on."""


Moves: TypeAlias = Mapping[OpCode, State]

_REGULAR: Final = (OpCode.REQUEST, OpCode.RESPONSE, OpCode.SIGNAL)
_TRAVELLING: Final = (
    *_REGULAR,
    OpCode.HELLO_REQUEST,
    OpCode.HELLO_RESPONSE,
    OpCode.BYE_REQUEST,
    OpCode.BYE_RESPONSE,
)

SEND: Final[Mapping[State, Moves]] = {
    State.CONNECTING: {OpCode.HELLO_REQUEST: State.HELLO_SENT},
    State.HELLO_SENT: {},
    State.HELLO_AWAITED: {},
    State.HELLO_HEARD: {OpCode.HELLO_RESPONSE: State.OPEN},
    State.OPEN: {**dict.fromkeys(_REGULAR, State.OPEN), OpCode.BYE_REQUEST: State.BYE_SENT},
    State.BYE_SENT: {},
    State.BYE_HEARD: {
        **dict.fromkeys(_REGULAR, State.BYE_HEARD),
        OpCode.BYE_RESPONSE: State.CLOSED,
    },
    State.BYE_CROSSED: {OpCode.BYE_RESPONSE: State.BYE_ANSWERED},
    State.BYE_OWED: {OpCode.BYE_RESPONSE: State.CLOSED},
    State.BYE_ANSWERED: {},
    State.CLOSED: {},
}
"""What we may send in each state, and the state after it."""

RECEIVE: Final[Mapping[State, Moves]] = {
    State.CONNECTING: {},
    State.HELLO_SENT: {OpCode.HELLO_RESPONSE: State.OPEN},
    State.HELLO_AWAITED: {OpCode.HELLO_REQUEST: State.HELLO_HEARD},
    State.HELLO_HEARD: {},
    State.OPEN: {**dict.fromkeys(_REGULAR, State.OPEN), OpCode.BYE_REQUEST: State.BYE_HEARD},
    State.BYE_SENT: {
        **dict.fromkeys(_REGULAR, State.BYE_SENT),
        OpCode.BYE_REQUEST: State.BYE_CROSSED,
        OpCode.BYE_RESPONSE: State.CLOSED,
    },
    State.BYE_HEARD: {},
    State.BYE_CROSSED: {OpCode.BYE_RESPONSE: State.BYE_OWED},
    State.BYE_OWED: {},
    State.BYE_ANSWERED: {OpCode.BYE_RESPONSE: State.CLOSED},
    State.CLOSED: {},
    State.OVERHEARD: dict.fromkeys(_TRAVELLING, State.OVERHEARD),
}
"""What the peer may send in each state, and the state after it."""

HUNG_UP: Final[Mapping[State, State]] = dict.fromkeys(
    (State.BYE_CROSSED, State.BYE_OWED, State.BYE_ANSWERED), State.CLOSED
)
"""What a state becomes when the peer hangs up after both sides have said Bye: that is a finished
Bye, for the Zig library sends nothing after its own one, so not the answer to ours either. In every
other state a peer that hangs up is lost."""

UNDECIDED: Final = frozenset({State.HELLO_HEARD})
"""Where what comes is not judged yet but waits: a client may talk before its Hello is answered."""

WELCOMED: Final[Mapping[bool, ListenerState]] = {
    True: ListenerState.LISTENING,
    False: ListenerState.CLOSED,
}
"""What the engine's WELCOME_RESPONSE makes of a listener, by whether its status is SUCCESS."""

POST: Final[Mapping[ListenerState, Mapping[OpCode, ListenerState]]] = {
    ListenerState.OPENING: {},
    ListenerState.LISTENING: {
        OpCode.BYE_REQUEST: ListenerState.CLOSED,
        OpCode.BYE_SIGNAL: ListenerState.CLOSED,
    },
    ListenerState.CLOSED: {},
}
"""What may be posted to a listener in each state, and the state after it. It has no peer."""

BYE_SAID: Final = frozenset({State.BYE_SENT, State.BYE_CROSSED, State.BYE_OWED, State.BYE_ANSWERED})
"""The states after our own Bye: nothing but the answer to the peer's may follow it."""


def _verdict(state: State, proto: int) -> State | Status:
    value = proto & OP_CODE_MASK
    if value >= len(OP_CODES):
        return Status.INVALID_OP_CODE
    op_code = OP_CODES[value]
    if proto & MORE_BIT and op_code.message_type is not MessageType.REGULAR:
        return Status.INVALID_MORE_USAGE
    return RECEIVE[state].get(op_code, Status.INVALID_OP_CODE)


VERDICTS: Final[Mapping[State, tuple[State | Status, ...]]] = {
    state: tuple(_verdict(state, proto) for proto in range(PUBLIC_BITS + 1)) for state in RECEIVE
}
"""RECEIVE spread out by proto byte, for the decoder's loop: the next state, or what is wrong."""

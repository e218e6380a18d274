"""The life of a channel as tables: what may be sent and received in each state, and what follows.

Both directions form one state machine, because a Bye that was sent changes what may be received.
A listener has a state machine and a table of its own. ``docs/diagrams.py`` draws all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from .op_code import MORE_BIT, OP_CODE_MASK, OP_CODES, PUBLIC_BITS, MessageType, OpCode
from .status import Status


class State(Enum):
    """Where a channel is in its life."""

    # By identity. Enum's own __hash__ is Python code, and it would run for each chunk.
    __hash__ = object.__hash__

    CONNECTING = auto()
    """Client: the Hello has not been sent yet."""
    HELLO_SENT = auto()
    """Client: the Hello was sent, and the server has not answered yet."""
    HELLO_AWAITED = auto()
    """Server: the client's Hello has not arrived yet."""
    HELLO_HEARD = auto()
    """Server: the Hello has arrived, and the application has not accepted or refused it yet."""
    OPEN = auto()
    """The handshake is complete, and both sides may send."""
    BYE_SENT = auto()
    """This side has sent its Bye. The peer may still send, and answers last."""
    BYE_HEARD = auto()
    """The peer has sent its Bye and sends no more. This side may still send, and answers last."""
    BYE_CROSSED = auto()
    """Both sides have sent a Bye at the same time. Both answers are missing."""
    BYE_OWED = auto()
    """Both sides have sent a Bye at the same time. Only this side's answer is missing."""
    BYE_ANSWERED = auto()
    """Both sides have sent a Bye at the same time. Only the peer's answer is missing."""
    CLOSED = auto()
    """Nothing is sent or received any more."""
    OVERHEARD = auto()
    """Not the state of a channel: used to decode captured frames of either side."""


class ListenerState(Enum):
    """Where a listener is in its life."""

    OPENING = auto()
    """The host is being resolved, and the socket bound."""
    LISTENING = auto()
    """Clients can connect."""
    CLOSED = auto()
    """No client can connect any more. The channels that were accepted stay open."""


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
"""What this side may send in each state, and the next state."""

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
"""What the peer may send in each state, and the next state."""

HUNG_UP: Final[Mapping[State, State]] = dict.fromkeys(
    (State.BYE_CROSSED, State.BYE_OWED, State.BYE_ANSWERED), State.CLOSED
)
"""The next state if the peer closes the connection after both sides have sent a Bye. That completes
the Bye, because the Zig library sends nothing after its own Bye, not even the answer to ours. In
every other state the connection is lost."""

UNDECIDED: Final = frozenset({State.HELLO_HEARD})
"""States in which received bytes wait undecoded: a client may send before its Hello is answered."""

WELCOMED: Final[Mapping[bool, ListenerState]] = {
    True: ListenerState.LISTENING,
    False: ListenerState.CLOSED,
}
"""The state of a listener after the engine's WELCOME_RESPONSE, by whether its status is SUCCESS."""

POST: Final[Mapping[ListenerState, Mapping[OpCode, ListenerState]]] = {
    ListenerState.OPENING: {},
    ListenerState.LISTENING: {
        OpCode.BYE_REQUEST: ListenerState.CLOSED,
        OpCode.BYE_SIGNAL: ListenerState.CLOSED,
    },
    ListenerState.CLOSED: {},
}
"""What may be posted to a listener in each state, and the next state. A listener has no peer."""

BYE_SAID: Final = frozenset({State.BYE_SENT, State.BYE_CROSSED, State.BYE_OWED, State.BYE_ANSWERED})
"""The states after this side's Bye: only the answer to the peer's Bye may still be sent."""


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
"""RECEIVE by proto byte, for the decoder's loop: the next state, or the status of the violation."""

"""Which frames may be sent on a channel, and the errors for those that may not."""

from __future__ import annotations

from ...protocol.binary_header import MAX_PART
from ...protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    InvalidHeadersLen,
    InvalidMessageId,
    NotAllowed,
    PeerDisconnected,
    TofuError,
    again,
)
from ...protocol.lifecycle import BYE_SAID, SEND, State
from ...protocol.message import check_status, checked_body
from ...protocol.op_code import OpCode, Role


def judge(op_code: OpCode, message_id: int, state: State, asked_id: int) -> tuple[State, int]:
    """The state of a channel after sending an op code, and the id that the frame must carry.

    Args:
        op_code: of the frame.
        message_id: of the frame; 0 lets this function choose it.
        state: of the channel now.
        asked_id: the id of the peer's Hello or Bye that is not answered yet.

    Raises:
        NotAllowed, ChannelClosed: the op code may not be sent in this state.
        InvalidMessageId: the frame is an answer, and its id is not that of the request.
    """
    after = SEND[state].get(op_code)
    if after is None:
        raise _out_of_turn(op_code, state)
    if op_code.role is Role.RESPONSE:
        asked = message_id if op_code is OpCode.RESPONSE else asked_id
        message_id = message_id or asked
        if not message_id or message_id != asked:
            raise InvalidMessageId(
                f"{op_code.name} must carry its request's message id"
                + (f", {asked}, not {message_id}" if asked else ", not 0")
            )
    return after, message_id


def when_sending(end: TofuError) -> TofuError:
    """The error for sending on a channel that has ended."""
    return PeerDisconnected("the peer said Bye") if isinstance(end, ChannelEnded) else again(end)


def _out_of_turn(op_code: OpCode, state: State) -> TofuError:
    if state in BYE_SAID:
        return ChannelClosed(f"this side has sent a Bye: {op_code.name} cannot follow it")
    return NotAllowed(f"{op_code.name} may not be sent in state {state.name.lower()}")


def unpackable(message_id: int, headers: bytes, body: bytes, status: int) -> TofuError:
    """The error for a frame whose lengths or id do not fit in a header.

    Raises:
        InvalidBodyLen: the body does not.
        TypeError: the status does not.
    """
    if len(headers) > MAX_PART:
        return InvalidHeadersLen(f"the headers have {len(headers)} bytes and may have {MAX_PART}")
    checked_body(body)
    check_status(status)
    return InvalidMessageId(f"the message id is {message_id}: it must be from 0 to 2**64 - 1")

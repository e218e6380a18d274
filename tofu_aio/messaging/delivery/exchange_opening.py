"""Opening an exchange: for a request in parts, or for the answer to a received request."""

from __future__ import annotations

from typing import Final, TypeVar

from ...protocol.errors import InvalidChannelNumber, InvalidMessageId, InvalidOpCode, NotAllowed
from ...protocol.lifecycle import RECEIVE, State
from ...protocol.message import Message, next_message_id
from ...protocol.op_code import ANSWERED_BIT, OP_CODE_MASK, OpCode
from ...protocol.text_headers import HeadersLike
from ..connection.connection import Connection
from ..connection.sending_rules import when_sending
from ..exchange import Exchange
from .dispatcher import Dispatcher, unanswerable
from .replies import not_to_be_answered

_C = TypeVar("_C")

_REQUEST: Final = int(OpCode.REQUEST)


def open_exchange(
    connection: Connection,
    dispatcher: Dispatcher[_C],
    request: Message | None,
    headers: HeadersLike | None,
) -> Exchange:
    """Open an exchange; see ``Channel.stream``."""
    if connection.end is None and connection.decoder.state is State.HELLO_HEARD:
        raise NotAllowed(f"channel {connection.number} is not open yet: accept it first")
    asks = request is None
    message_id = next_message_id() if request is None else _claimed(connection, dispatcher, request)

    def forget(exchange: Exchange) -> None:
        begun = dispatcher.pending_requests() if asks else dispatcher.incoming_requests()
        begun.forget(exchange)

    exchange = Exchange(
        connection,
        OpCode.REQUEST if asks else OpCode.RESPONSE,
        message_id,
        headers,
        forget,
        slots=dispatcher.pending_requests().slots if asks else None,
    )
    parts = [] if request is None else [request, *_parts_of(dispatcher, request)]
    for part in parts:
        exchange._deliver(part)
    end = dispatcher.mailbox.end
    if end is not None:
        exchange._lose(when_sending(end))
    elif request is not None:
        dispatcher.incoming_requests().begin(exchange, in_parts=request.more)
    elif OpCode.REQUEST not in RECEIVE[connection.decoder.state]:
        exchange._lose(unanswerable())
    else:
        dispatcher.pending_requests().begin(exchange)
    return exchange


def _claimed(connection: Connection, dispatcher: Dispatcher[_C], request: Message) -> int:
    """Claim a received request, so that nothing else may answer it; return its id."""
    if request.op_code is not OpCode.REQUEST:
        raise InvalidOpCode(f"stream() takes a received REQUEST, not {request.op_code.name}")
    if request.channel_number != connection.number:
        raise InvalidChannelNumber(
            f"the request came on channel {request.channel_number}, not on {connection.number}: "
            "answer it on its own channel"
        )
    earlier = dispatcher.incoming_requests().exchanges.get(request.message_id)
    if earlier is not None and earlier._receives:
        raise InvalidMessageId(
            f"the exchange of request {request.message_id} is in progress already: use that one"
        )
    if request._proto & ANSWERED_BIT:
        raise not_to_be_answered(request)
    request._proto |= ANSWERED_BIT  # only the exchange answers it
    return request.message_id


def _parts_of(dispatcher: Dispatcher[_C], first: Message) -> list[Message]:
    """Take the parts that follow this one, as far as they have arrived, out of the mailbox."""
    if not first.more:
        return []
    return dispatcher.mailbox.remove(
        lambda message: (
            message.message_id == first.message_id and message._proto & OP_CODE_MASK == _REQUEST
        )
    )

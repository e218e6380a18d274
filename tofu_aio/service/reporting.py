"""What the caller is told of a call that failed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from ..messaging.channel import Channel
from ..messaging.exchange import Exchange
from ..protocol.binary_header import MAX_PART
from ..protocol.errors import ExchangeFailed, TofuError
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from .errors import CANCELLED, DEADLINE_EXCEEDED, INTERNAL, UNIMPLEMENTED, ServiceError
from .execution import Request
from .headers import CALL, CODE, CONTENT_TYPE
from .payloads import Codecs

logger = logging.getLogger("tofu_aio.service")

CLOCKS_DIFFER: Final = 0.02
"""Seconds before the deadline from which a ``TimeoutError`` counts as the deadline's. A call that
the handler makes ends at the same moment, and its timer may be the first; uvloop's clock ticks in
milliseconds."""


def failure_of(channel: Channel, request: Request, error: BaseException) -> ServiceError | None:
    """What the caller is told of an exception; None if nobody is left to be told.

    Args:
        channel: the caller's.
        request: the call.
        error: what the handler or its middleware has raised.
    """
    if isinstance(error, ServiceError) and not error.received:
        return error
    if isinstance(error, TimeoutError) and is_over(request.deadline):
        return ServiceError(DEADLINE_EXCEEDED, "the handler took longer than the caller waits")
    if isinstance(error, TofuError) and channel.end is not None:
        return None
    if isinstance(error, ExchangeFailed) and error.channel_number == channel.number:
        return None  # the caller has left its stream
    logger.error("the handler %r failed", request.handler.name, exc_info=error)
    return ServiceError(INTERNAL, "processing failed")


def is_over(deadline: float | None) -> bool:
    """Whether the time of a call is over, or so nearly that it makes no difference."""
    now = asyncio.get_running_loop().time()
    return deadline is not None and deadline - CLOCKS_DIFFER <= now


async def report(
    channel: Channel,
    codecs: Codecs,
    request: tuple[Message, Exchange | None],
    content_type: str,
    error: ServiceError,
) -> None:
    """Send the caller an error.

    Args:
        channel: the caller's.
        codecs: one of them encodes the details.
        request: the first message of the call, and its exchange if it has one.
        content_type: of the call.
        error: the error.
    """
    headers = {CODE: error.code}
    # The parts of an answer that fails are void, except the last: so there is only one.
    body = error.text.encode(errors="replace")[:MAX_PART]
    if error.details is not None:
        try:
            codec = codecs.answering(content_type)
            whole = codec.encode({"text": error.text, "details": error.details})
            if len(whole) > MAX_PART:
                raise ValueError(f"they have {len(whole)} bytes: {MAX_PART} are allowed")
            headers[CONTENT_TYPE], body = codec.content_type, whole
        except Exception:
            logger.exception("the details of an error cannot be encoded: %.200r", error)
    message, exchange = request
    with suppress(TofuError):  # the caller is gone
        if exchange is None:
            await channel.reply(message, body, headers, status=error.status)
        else:
            await exchange.finish(body, headers, status=error.status)


def unknown(name: str) -> ServiceError:
    """The error of a call for which there is no handler."""
    if not name:
        return ServiceError(
            UNIMPLEMENTED, f"the request has no header {CALL!r} with a handler's name"
        )
    return ServiceError(UNIMPLEMENTED, f"there is no handler {name[:80]!r}")


def break_off(channel: Channel, request: Message) -> None:
    """Tell a caller that its call was cancelled on this side, without waiting for room."""
    if channel.end is not None or channel.cancelled(request):
        return
    error = ServiceError(CANCELLED, "the handler was cancelled")
    answer = Message(OpCode.RESPONSE, error.text.encode(), {CODE: error.code})
    answer.message_id, answer.status = request.message_id, error.status
    with suppress(TofuError):  # the channel is being closed, or the handler has replied
        channel.post(answer)


def leave(exchange: Exchange) -> None:
    """Leave an exchange, outside of a task: closing one never waits."""
    closing = exchange.aclose()
    with suppress(StopIteration):
        closing.send(None)

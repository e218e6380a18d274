"""What one call does: decode its payload, run middleware and handler, send the result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass
from inspect import isawaitable
from typing import Final, Protocol, cast

from ..messaging.channel import Channel
from ..messaging.exchange import Exchange
from ..protocol.errors import InvalidBodyLen
from ..protocol.message import Message
from .builtin import HEALTH
from .call import Call, Middleware
from .errors import INVALID_ARGUMENT, INVALID_BODY_LEN, ServiceError
from .feed import Feed
from .handlers import Handler, chained
from .headers import CONTENT_TYPE, STREAM, CallHeaders
from .items import Items, joined, send_item
from .payloads import Codecs
from .resources import Resources, Values
from .slots import Slots


class Host(Protocol):
    """What calls need of their service."""

    codecs: Codecs
    max_body: int
    middleware: list[Middleware]
    resources: Resources
    surrounded: bool  # whether calls have middleware, or resources of their own


@dataclass(slots=True, eq=False)
class Request:
    """A request that has a handler.

    Attributes:
        handler: for it.
        told: what its headers say.
        message: the request, or its first part.
        exchange: for its parts, or those of its result; None if it has neither.
        deadline: when the caller's time is over, by the loop's clock; None for never.
        slot: which it holds of the service; None if it holds none.
    """

    handler: Handler
    told: CallHeaders
    message: Message
    exchange: Exchange | None
    deadline: float | None
    slot: Slots | None = None


def exchange_for(
    host: Host, channel: Channel, message: Message, handler: Handler | None, told: CallHeaders
) -> Exchange:
    """The exchange of a request that comes in parts, or whose result will.

    Raises:
        TofuError: the peer uses the id of a request that is not over.
    """
    headers = {}
    if handler is not None and handler.signature.result.streamed:
        headers[STREAM] = "1"
        with suppress(ValueError):  # an unknown content type fails the call later
            item = handler.signature.result.type
            headers[CONTENT_TYPE] = handler.content_type or host.codecs.content_type(
                told.content_type, item
            )
    return channel.stream(message, headers=headers)


class _Marker:
    """What is no payload and no result."""


_NOTHING: Final = _Marker()
"""The payload of a call that has none, for a handler that takes none."""

STREAMED: Final = _Marker()
"""The result of a call all of whose items were sent."""


async def execute(host: Host, channel: Channel, values: Values, request: Request) -> object:
    """Run a call; return its result, or ``STREAMED``.

    Args:
        host: the service.
        channel: the caller's.
        values: the resources of the service and the channel.
        request: the call.

    Raises:
        ServiceError: the payload cannot be decoded; or it is the handler's.
        Exception: the handler's.
    """
    if request.handler.simple and not host.surrounded:
        return await request.handler.function(await _payload(host, request))
    execution = _Execution(host, values, request)
    call = Call(request.handler.name, request.message.headers, channel, request.deadline)
    # A health check must not need a token.
    middleware = () if request.handler.name == HEALTH else host.middleware
    result = await chained(middleware, execution.innermost)(call)
    if not request.handler.signature.result.streamed:
        return result
    if not execution.streamed:
        raise TypeError("middleware returned before all items of the stream were sent")
    return STREAMED


class _Execution:
    """The innermost part of a call that middleware surrounds, or that needs more than a payload.

    Attributes:
        streamed: whether all items of a streamed result were sent.
    """

    def __init__(self, host: Host, values: Values, request: Request) -> None:
        self._host = host
        self._values = values
        self._request = request
        self._payload: object = _NOTHING
        self.streamed = False

    async def innermost(self, call: Call) -> object:
        """Decode the payload and run the handler, as the last middleware calls it.

        Not before: a caller whom the middleware refuses learns nothing about the handler.
        """
        host, request = self._host, self._request
        self._payload = await _payload(host, request)
        own = {**self._values, Call: call, Channel: call.channel}
        if not host.resources.any("call"):
            return await self._handle(own)
        async with host.resources.opened("call", own) as values:
            return await self._handle(values)

    async def _handle(self, values: Values) -> object:
        handler = self._request.handler
        arguments = [
            self._payload if needed is None else values[needed]
            for needed in handler.signature.order
            if needed is not None or self._payload is not _NOTHING
        ]
        result: object = handler.function(*arguments)
        if not handler.signature.result.streamed:
            return await cast("Awaitable[object]", result)
        await self._send_items(result)
        return None

    async def _send_items(self, result: object) -> None:
        """Send the items of a streamed result, as fast as its reader takes them."""
        request, codecs = self._request, self._host.codecs
        assert request.exchange is not None
        items = cast("AsyncIterator[object]", await result if isawaitable(result) else result)
        if isinstance(items, Feed):
            await items.run(request.exchange)
            self.streamed = True
            return
        item_type = request.handler.signature.result.type
        content_type = codecs.content_type(request.told.content_type, item_type)
        try:
            async for item in items:
                body = codecs.encode_item(content_type, item)
                await send_item(request.exchange, content_type, body)
        finally:
            close = getattr(items, "aclose", None)  # only generators have it
            if close is not None:
                await close()
        await request.exchange.finish()
        self.streamed = True


async def _payload(host: Host, request: Request) -> object:
    """The payload of a request."""
    handler, exchange = request.handler, request.exchange
    if exchange is None:
        return decoded(host, request, request.message.body)
    if handler.takes_stream:
        content_type = request.told.content_type
        _check_known(host.codecs, content_type)
        return _RequestItems(
            exchange, host.codecs, handler.payload_type, host.max_body, content_type=content_type
        )
    try:
        _, body = await joined(exchange, host.max_body)
    except InvalidBodyLen as error:
        raise ServiceError(INVALID_BODY_LEN, str(error)) from error
    return decoded(host, request, body)


def decoded(host: Host, request: Request, body: bytes) -> object:
    """The payload of a request that is no stream. Its message is released."""
    handler, message, content_type = request.handler, request.message, request.told.content_type
    as_type = handler.payload_type
    if as_type is Message:
        message.body = body  # of all its parts
        return message
    message.release()
    try:
        if body and handler.simple:
            return host.codecs.decode(content_type, body, as_type)
        if handler.signature.payload is None:
            if body:
                raise ValueError(f"{handler.name!r} takes no payload")
            return _NOTHING
        if not body and not content_type and not handler.signature.required:
            return _NOTHING
        return host.codecs.decode(content_type, body, as_type)
    except ValueError as error:
        raise ServiceError(INVALID_ARGUMENT, str(error)) from error


def _check_known(codecs: Codecs, content_type: str) -> None:
    try:
        codecs.of(content_type)
    except ValueError as error:
        raise ServiceError(INVALID_ARGUMENT, str(error)) from error


class _RequestItems(Items[object]):
    """The items that a caller sends. What is wrong with them is the caller's fault."""

    async def __anext__(self) -> object:
        try:
            return await super().__anext__()
        except InvalidBodyLen as error:
            raise ServiceError(INVALID_BODY_LEN, str(error)) from error
        except ValueError as error:
            raise ServiceError(INVALID_ARGUMENT, str(error)) from error

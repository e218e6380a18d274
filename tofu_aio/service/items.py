"""Streams of items over an exchange: each item is a part, or several if it is long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from ..messaging.exchange import Exchange
from ..protocol.binary_header import MAX_PART
from ..protocol.errors import ChannelEnded, InvalidBodyLen, InvalidHeadersLen, TofuError
from ..protocol.message import Message
from ..protocol.text_headers import TextHeaders
from .call import is_cancelled
from .codec import BYTES
from .headers import CONTENT_TYPE, EPOCH, LENGTH
from .payloads import Codecs, is_bytes

logger = logging.getLogger("tofu_aio.service")

T = TypeVar("T")

_NO_STREAMS: Final = (str, bytes, bytearray, memoryview, Mapping)
"""Iterables that are one item."""


class Sending(AbstractAsyncContextManager[None]):
    """Sends the payload of a call. Its items are sent while the block runs.

    Args:
        exchange: on which they are sent.
        codecs: encode them.
        payload: the payload, or an iterable of its items.
        streamed: whether it is an iterable.
        deadline: when the caller's time is over, by the loop's clock; None for never.
    """

    def __init__(
        self,
        exchange: Exchange,
        codecs: Codecs,
        payload: object,
        *,
        streamed: bool,
        deadline: float | None,
    ) -> None:
        self._exchange = exchange
        self._codecs = codecs
        self._payload = payload
        self._streamed = streamed
        self._deadline = deadline
        self._task: asyncio.Task[BaseException | None] | None = None

    async def __aenter__(self) -> None:
        """Send the payload, or begin to send its items.

        Raises:
            TimeoutError: the deadline has passed before the payload was sent.
            TypeError: the codec cannot encode it.
        """
        if self._streamed:
            items = _send_items(self._exchange, self._codecs, self._payload)
            self._task = asyncio.create_task(items)
            return
        content_type, body = self._codecs.encode(self._codecs.own, self._payload)
        async with asyncio.timeout_at(self._deadline):
            await self._exchange.finish(body, self._codecs.headers(content_type))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop sending.

        Raises:
            Exception: that of the payload, in place of the block's.
        """
        task = self._task
        if task is None:
            return
        had_failed = task.done()
        task.cancel()
        await asyncio.wait([task])
        error = None if task.cancelled() else task.result()
        if error is None:
            return
        if had_failed and (exc_value is None or isinstance(exc_value, Exception)):
            raise error
        # What fails because it is stopped must not hide why.
        logger.warning("the items of a stream failed when they were needed no more: %r", error)


async def _send_items(exchange: Exchange, codecs: Codecs, payload: object) -> BaseException | None:
    """Send the items of a streamed request.

    If the payload fails, or the headers leave no room for those of the first item, this ends the
    exchange, for the receiver, and returns the error. If sending fails otherwise, the peer has
    ended the exchange, which the receiver finds out as well.
    """
    content_type: str | None = None
    async with aclosing(_each(payload)) as items:
        while True:
            headers: TextHeaders | None = None
            try:
                item = await anext(items, items)
                if item is items:
                    break
                if content_type is None:
                    content_type = BYTES if is_bytes(item) else codecs.own.content_type
                    headers = codecs.headers(content_type)
                body = codecs.encode_item(content_type, item)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled(error):
                    raise
                await exchange.aclose()
                return error
            try:
                await send_item(exchange, content_type, body, headers)
            except InvalidHeadersLen as error:  # with the program's own headers: nothing was sent
                await exchange.aclose()
                return error
            except TofuError:
                return None
    with suppress(TofuError):
        await exchange.finish()
    return None


async def _each(payload: object) -> AsyncGenerator[object]:
    """The items of any iterable. A generator is closed at the end: nobody else would do it."""
    if isinstance(payload, AsyncIterable):
        try:
            async for item in payload:
                yield item
        finally:
            if isinstance(payload, AsyncGenerator):
                await payload.aclose()
    elif isinstance(payload, Iterable) and not isinstance(payload, _NO_STREAMS):
        for item in payload:
            yield item
    else:
        raise TypeError(f"a stream is {payload!r:.80}: give an iterable or async iterable of items")


async def send_item(
    exchange: Exchange, content_type: str, body: bytes, headers: TextHeaders | None = None
) -> None:
    """Send one item. A long one is announced with its length, unless it is bytes.

    Raises:
        TofuError: as ``Exchange.send``.
    """
    if len(body) <= MAX_PART or content_type == BYTES:
        await exchange.send(body, headers)
    else:
        pairs = headers.pairs if headers is not None else ()
        await exchange.send(body, [*pairs, (LENGTH, str(len(body)))])


class Items(AsyncIterator[T], Generic[T]):
    """The items of a stream that arrives.

    Args:
        exchange: on which they arrive.
        codecs: decode them.
        as_type: of each item.
        max_body: the longest acceptable item, in bytes.
        content_type: of the items, if it is known.
        first: the first part, if it was received already.
    """

    def __init__(
        self,
        exchange: Exchange,
        codecs: Codecs,
        as_type: type[T],
        max_body: int,
        *,
        content_type: str | None = None,
        first: Message | None = None,
    ) -> None:
        self._first = first
        self._exchange = exchange
        self._codecs = codecs
        self._as_type = as_type
        self._max_body = max_body
        self._content_type = content_type

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next item.

        Raises:
            ValueError: it cannot be decoded.
            InvalidBodyLen: it is longer than ``max_body``.
            TofuError: as ``Exchange.receive``.
        """
        headers, body = await self.take()
        while not body and EPOCH in headers:  # the beginning of a subscription
            headers, body = await self.take()
        return self.decode(headers, body)

    def decode(self, headers: TextHeaders, body: bytes) -> T:
        """An item as a value.

        Raises:
            ValueError: it cannot be decoded.
        """
        content_type = headers.get(CONTENT_TYPE, self._content_type or "")
        return self._codecs.decode(content_type, body, self._as_type)

    async def take(self) -> tuple[TextHeaders, bytes]:
        """The headers and the body of the next item.

        Raises:
            InvalidBodyLen, TofuError: as ``__anext__``.
        """
        part, self._first = self._first, None
        if part is None:
            try:
                part = await self._exchange.receive()
            except ChannelEnded:
                raise StopAsyncIteration from None
        with part:
            headers, body, more, length = part.headers, part.body, part.more, None
            if headers:
                length = headers.get(LENGTH)
                if self._content_type is None:
                    self._content_type = headers.get(CONTENT_TYPE, "")
        del part
        if not more and not body:
            raise StopAsyncIteration  # the last part only ends the stream
        if length is not None:
            body = await self._rest(body, length)
        return headers, body

    async def _rest(self, body: bytes, length: str) -> bytes:
        """The whole of an item whose first part has arrived."""
        size = int(length) if length.isascii() and length.isdigit() else -1
        if not len(body) <= size <= self._max_body:
            raise InvalidBodyLen(
                f"an item announces a length of {length[:20]!r} bytes, and {self._max_body} are "
                "accepted: send it in smaller items, or raise max_body"
            )
        whole = bytearray(body)  # a list would take many times as much for small parts
        while len(whole) < size:
            try:
                part = await self._exchange.receive()
            except ChannelEnded:
                raise ValueError("the stream ended in the middle of an item") from None
            with part:
                whole += part.body
        if len(whole) > size:
            raise ValueError(f"an item of {size} bytes was announced, and {len(whole)} came")
        return bytes(whole)


async def joined(
    exchange: Exchange, max_body: int, first: Message | None = None
) -> tuple[TextHeaders, bytes]:
    """All parts of an exchange as one body, and the headers of the first.

    Args:
        exchange: whose parts they are.
        max_body: the longest acceptable body, in bytes.
        first: the first part, if it was received already.

    Raises:
        InvalidBodyLen: there are more bytes than that.
        TofuError: as ``Exchange.receive``.
    """
    with first if first is not None else await exchange.receive() as part:
        headers, body, more = part.headers, part.body, part.more
    if not more:
        return headers, body
    whole = bytearray(body)
    while more:
        with await exchange.receive() as part:
            whole += part.body
            more = part.more
        if len(whole) > max_body:
            raise InvalidBodyLen(
                f"the payload is longer than {max_body} bytes: send it as a stream, or raise "
                "max_body"
            )
    return headers, bytes(whole)

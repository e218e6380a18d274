"""The streams of a client, each on a channel of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TypeAlias, TypeVar

from ..messaging.exchange import Exchange
from ..protocol.errors import ExchangeFailed, InvalidBodyLen
from ..protocol.text_headers import HeadersLike
from .call import left
from .endpoints import Endpoints
from .headers import STREAM, of_outgoing, timed
from .items import Items, Sending, joined
from .outgoing import Kind, Watch
from .payloads import Codecs, undecodable
from .reporting import is_over

T = TypeVar("T")

Parts: TypeAlias = AsyncIterable[object] | Iterable[object]
"""The items of a streamed request."""


class Streams:
    """Makes the calls of a client that have a streamed payload or result.

    Args:
        endpoints: the addresses.
        codecs: encode payloads and decode results.
        watch: counts calls.
        bound: how many may be open at once; further ones wait.
        max_body: the longest acceptable result or item, in bytes.

    Attributes:
        endpoints, codecs, watch, max_body: as given.
        free: for how many more there is room.
    """

    def __init__(
        self, endpoints: Endpoints, codecs: Codecs, watch: Watch, *, bound: int, max_body: int
    ) -> None:
        self.endpoints = endpoints
        self.codecs = codecs
        self.watch = watch
        self.free = asyncio.Semaphore(bound)
        self.max_body = max_body

    async def upload(
        self,
        name: str,
        parts: Parts,
        as_type: type[T],
        deadline: float | None,
        headers: HeadersLike,
    ) -> T:
        """Send a stream and return the result; see ``Client.upload``."""
        async with (
            StreamExchange(self, name, "upload", deadline, headers) as exchange,
            Sending(exchange, self.codecs, parts, streamed=True, deadline=deadline),
            asyncio.timeout_at(deadline),
        ):
            told, body = await joined(exchange, self.max_body)
            return self.codecs.result(name, told, body, as_type)

    async def items(
        self,
        name: str,
        payload: object,
        as_type: type[T],
        deadline: float | None,
        headers: HeadersLike,
    ) -> AsyncGenerator[T]:
        """Send a payload and iterate over the items of the result; see ``Client.stream``."""
        streamed = isinstance(payload, AsyncIterable)
        async with (
            StreamExchange(self, name, "stream", deadline, headers) as exchange,
            Sending(exchange, self.codecs, payload, streamed=streamed, deadline=deadline),
        ):
            async with asyncio.timeout_at(deadline):
                first = await exchange.receive()
                whole = None
                if STREAM not in first.headers:  # a result that is no stream has one item
                    whole = await joined(exchange, self.max_body, first)
            if whole is not None:
                yield self.codecs.result(name, *whole, as_type)
                return
            items = Items(exchange, self.codecs, as_type, self.max_body, first=first)
            del first
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        value = await anext(items)
                except StopAsyncIteration:
                    return
                except InvalidBodyLen:
                    raise
                except ValueError as error:
                    raise undecodable(name, error) from error
                yield value


class StreamExchange(AbstractAsyncContextManager[Exchange]):
    """An exchange with a handler, on a channel of its own.

    This is no generator, because it is used in one: a loop that shuts down ends all generators at
    once, and one that is inside another then fails.

    Args:
        streams: of the client.
        name: of the handler.
        kind: of the call.
        deadline: when the caller's time is over, by the loop's clock; None for never.
        headers: the program's own.
    """

    def __init__(
        self,
        streams: Streams,
        name: str,
        kind: Kind,
        deadline: float | None,
        headers: HeadersLike,
    ) -> None:
        self._streams = streams
        self._name = name
        self._kind: Kind = kind
        self._deadline = deadline
        self._headers = headers
        self._stack = AsyncExitStack()
        self._channel_number = 0

    async def __aenter__(self) -> Exchange:
        """Open the exchange.

        Raises:
            TofuError, TimeoutError: as ``Client.stream``.
        """
        async with AsyncExitStack() as stack:
            try:
                exchange = await self._opened(stack)
            except TimeoutError as error:
                raise self._named(error) from None
            self._stack = stack.pop_all()
        return exchange

    async def _opened(self, stack: AsyncExitStack) -> Exchange:
        streams, deadline = self._streams, self._deadline
        watched = stack.enter_context(streams.watch.call(self._name, self._kind))
        async with asyncio.timeout_at(deadline):
            await streams.free.acquire()
        stack.callback(streams.free.release)
        endpoint, link = await streams.endpoints.begin_stream(deadline)
        # The channel is used again only if nothing went wrong.
        stack.push(lambda exc_type, *_: endpoint.end_stream(link, clean=exc_type is None))
        self._channel_number = link.channel.number
        told = timed(of_outgoing(self._name, "", self._headers, watched.added), left(deadline))
        return await stack.enter_async_context(link.channel.stream(headers=told))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        error: BaseException | None = exc_value
        if isinstance(exc_value, ExchangeFailed):
            # Those of another channel come from the payload.
            if exc_value.channel_number == self._channel_number:
                error = self._streams.codecs.error(exc_value.part, str(exc_value))
        elif isinstance(exc_value, TimeoutError):
            error = self._named(exc_value)
        if error is None:
            await self._stack.__aexit__(None, None, None)
            return
        await self._stack.__aexit__(type(error), error, traceback)
        if error is not exc_value:
            raise error from None

    def _named(self, error: TimeoutError) -> TimeoutError:
        """The error of a deadline, with a text."""
        if str(error) or not is_over(self._deadline):
            return error
        return TimeoutError(f"the time of the call of {self._name!r} is over")

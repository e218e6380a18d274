"""A client of services: calls by name over channels that are made when needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar, Unpack, overload

from ..checks import checked_count, checked_seconds
from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..messaging.group import ChannelGroup
from ..messaging.limits import MAX_BODY
from ..messaging.options import (
    ReconnectingClientOptions,
    ReconnectOptions,
    split,
)
from ..protocol.address import Address
from ..protocol.text_headers import HeadersLike
from .binding import bound
from .call import inherited_deadline
from .codec import JSON, Codec
from .connector import Connector
from .counts import ClientCounts
from .cursor import Event
from .endpoint import AroundChannel
from .endpoints import Endpoints
from .headers import of_outgoing
from .outgoing import AroundCall, Watch
from .payloads import Codecs
from .streams import Parts, StreamExchange, Streams
from .subscription import Opening, Subscription

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS: Final = 3
"""Default for how often a call is tried."""

STREAMS: Final = 64
"""Default for the streams that a client may have open."""

_OWN: Final = (
    "around_call",
    "around_channel",
    "attempts",
    "call_timeout",
    "codec",
    "group",
    "streams",
)


class Client:
    """Calls the handlers of a service by name.

    ::

        async with tofu.Client("tcp://a:7000", "tcp://b:7000") as client:
            small = await client.call("resize", job, result=Resized, timeout=2)

    It connects at the first call and stays connected. Calls are spread over the addresses that
    work, and share one channel to each. Each stream has a channel of its own, so a slow one delays
    no call. An address that cannot be connected, or whose calls fail one after another, is left
    alone for a time that grows.

    A call that was never sent is tried again, and so is one that its handler did not begin and
    answered with the code ``unavailable``. A call that may have been carried out is tried again
    only if it is ``idempotent``. In the long run at most one call in ten is tried again.

    Calls that a handler makes end when the time of its own call is over.

    Args:
        targets: the addresses of the service; or one channel, over which its peer is called.
        group: the group in which channels are made. By default the client has its own engine.
        codec: encodes payloads; JSON by default.
        call_timeout: seconds, for calls that name no other ``timeout``; None, the default, for no
            limit. The option ``timeout`` is for connecting.
        attempts: how often a call is tried, 1 or more; 3 by default. Addresses that cannot be
            connected do not count as long as there is another one.
        streams: how many streams may be open at once; further ones wait. 64 by default.
        around_call: a function that takes each ``OutgoingCall``, to which it may add headers, and
            returns a context manager, inside which the call is made. None by default.
        around_channel: a function that takes each channel that the client opens and returns a
            context manager, entered at once and left when the channel is closed. None by default.
        options: those of ``reconnecting`` and of ``Engine``; see ``ReconnectingClientOptions``.

    Attributes:
        counts: what the client has done.

    Raises:
        InvalidAddress, TypeError, ValueError: an argument has no meaning. The message names it.
    """

    def __init__(
        self,
        *targets: str | Address | Channel,
        group: ChannelGroup | None = None,
        codec: Codec = JSON,
        call_timeout: float | None = None,
        attempts: int = ATTEMPTS,
        streams: int = STREAMS,
        around_call: AroundCall | None = None,
        around_channel: AroundChannel | None = None,
        **options: Unpack[ReconnectingClientOptions],
    ) -> None:
        if not targets:
            raise TypeError("a Client needs an address: Client('tcp://127.0.0.1:7000')")
        if call_timeout is not None:
            checked_seconds("call_timeout", call_timeout)
        self._call_timeout = call_timeout
        self._codecs = Codecs(codec)
        self.counts = ClientCounts()
        limits, rest = split("Client", options, ReconnectOptions, _OWN)
        self._connector = Connector(group, limits, rest, around=around_channel, counts=self.counts)
        endpoints = [self._connector.endpoint(target) for target in targets]
        addresses = tuple(endpoint.name for endpoint in endpoints)
        self._watch = Watch(self.counts, around_call, addresses)
        self._endpoints = Endpoints(
            endpoints, checked_count("attempts", attempts), self._codecs, self.counts
        )
        self._streams = Streams(
            self._endpoints,
            self._codecs,
            self._watch,
            bound=checked_count("streams", streams),
            max_body=limits.get("max_body", MAX_BODY),
        )

    # --- calls ----------------------------------------------------------------------------

    @overload
    async def call(
        self,
        name: str,
        payload: object = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
        headers: HeadersLike = (),
    ) -> object: ...

    @overload
    async def call(
        self,
        name: str,
        payload: object = None,
        *,
        result: type[T],
        timeout: float | None = None,
        idempotent: bool = False,
        headers: HeadersLike = (),
    ) -> T: ...

    async def call(
        self,
        name: str,
        payload: object = None,
        *,
        result: type = object,
        timeout: float | None = None,
        idempotent: bool = False,
        headers: HeadersLike = (),
    ) -> object:
        """Call a handler and return its result.

        Args:
            name: of the handler.
            payload: its argument: anything that the codec encodes, or bytes, which are sent as
                they are; None for none.
            result: the type of the result. By default plain types: dict, list, str, or bytes.
            timeout: seconds, 0 or more, for all attempts together. The handler is cancelled when
                they are over.
            idempotent: whether the call may be carried out twice.
            headers: more headers, for the handler and its middleware.

        Raises:
            ServiceError: the handler failed, or the service refused the call.
            TimeoutError: there was no result in time.
            ConnectFailed: no address could be connected.
            PeerDisconnected, ChannelEnded: the peer was lost, and may have carried out the call.
            InvalidMessage: the result has another type. The message names the field.
            TypeError: the payload cannot be encoded, or the handler streams its result.
            ChannelClosed: the client is closed.
        """
        codecs = self._codecs
        content_type, body = codecs.encode(codecs.own, payload)
        deadline = self._deadline(timeout)
        with self._watch.call(name, "call") as watched:
            told = of_outgoing(name, content_type, headers, watched.added)
            try:
                response = await self._endpoints.request(
                    body, told, deadline, idempotent=idempotent
                )
            except TimeoutError as error:
                raise TimeoutError(f"no result of {name!r} in time: {error}") from None
            return codecs.result(name, response.headers, response.body, result)

    async def upload(
        self,
        name: str,
        parts: Parts,
        *,
        result: type[T],
        timeout: float | None = None,
        headers: HeadersLike = (),
    ) -> T:
        """Call a handler with a stream of items, and return its result.

        It is not tried again once it has begun.

        Args:
            name: of the handler, whose parameter is an ``AsyncIterator``.
            parts: the items, from any iterable or async iterable. They are taken as fast as the
                handler takes them.
            result: the type of the result.
            timeout: seconds, 0 or more, for everything together.
            headers: as for ``call``.

        Raises:
            ServiceError, TimeoutError, TofuError, TypeError: as ``call``.
            Exception: that of ``parts``. The handler is then cancelled.
        """
        return await self._streams.upload(name, parts, result, self._deadline(timeout), headers)

    def stream(
        self,
        name: str,
        payload: object = None,
        *,
        item: type[T],
        timeout: float | None = None,
        headers: HeadersLike = (),
    ) -> AsyncGenerator[T]:
        """Call a handler and iterate over the items of its result.

        It is not tried again once it has begun. The handler sends as fast as the items are taken.
        Leaving the loop cancels it.

        Args:
            name: of the handler.
            payload: its argument, as for ``call``; or an async iterable, if it takes a stream.
            item: the type of the items.
            timeout: seconds, 0 or more, for everything together.
            headers: as for ``call``.

        Raises:
            ServiceError, TimeoutError, TofuError, TypeError: as ``call``, from the iteration.
        """
        return self._streams.items(name, payload, item, self._deadline(timeout), headers)

    def subscribe(
        self,
        name: str,
        *,
        item: type[T],
        after: int | None = None,
        epoch: str = "",
        headers: HeadersLike = (),
    ) -> AsyncGenerator[Event[T]]:
        """Subscribe to a topic of the service and iterate over its messages.

        If the channel is lost or the service shuts down, it connects again, to any address and as
        often as needed, and goes on after the last message. The iteration ends when the topic is
        closed. Leaving the loop unsubscribes. It counts as one of the client's ``streams``.

        Args:
            name: of the topic.
            item: the type of the values.
            after: the number of the last message that the program has; see ``Topic.subscribe``.
            epoch: the epoch of that message, so that a restart of the publisher is noticed.
            headers: as for ``call``.

        Raises:
            ServiceError: there is no such topic, or the subscription was refused or too slow.
            TofuError: as ``call``, if another attempt would not help; from the iteration.
        """
        if after is not None:
            checked_count("after", after, 0)
        new = partial(StreamExchange, self._streams, name, "stream", None, headers)
        backoff = self._connector.backoff
        opening = Opening(name, new, self._codecs, self._streams.max_body, backoff)
        return Subscription(opening, item, after, epoch).events()

    def bind(
        self, interface: Callable[P, T], *, timeout: float | None = None, prefix: str = ""
    ) -> T:
        """An object whose methods call the handlers of the same names.

        ::

            class Images(Protocol):
                async def resize(self, job: Resize) -> Resized: ...
                def watch(self, query: Query) -> AsyncIterator[Event]: ...
                async def store(self, parts: AsyncIterator[bytes]) -> Stored: ...

            small = await client.bind(Images).resize(job)

        A method with a streamed result is ``def``, because there is nothing to await.

        Args:
            interface: a class, usually a ``Protocol``, with annotated methods of one parameter at
                most. ``@tofu.idempotent`` marks those that may be carried out twice.
            timeout: seconds, for each call.
            prefix: what comes before the name of a method in the name of its handler.

        Raises:
            TypeError: a method has no meaning as a call. The message names it.
        """
        return bound(self, interface, timeout, prefix)

    # --- life -----------------------------------------------------------------------------

    @property
    def engine(self) -> Engine | None:
        """The engine of its channels; None with ``group``."""
        return self._connector.engine

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all channels, with Byes. Calls that are under way fail. May be called again."""
        try:
            await self._endpoints.aclose()
        finally:
            await self._connector.aclose()

    # --- the parts of a call ----------------------------------------------------------------

    def _deadline(self, timeout: float | None) -> float | None:
        """When the time of a call is over: its own time-out, or that of the call being handled."""
        own = self._call_timeout if timeout is None else checked_seconds("timeout", timeout)
        inherited = inherited_deadline()
        if own is None:
            return inherited
        deadline = asyncio.get_running_loop().time() + own
        return deadline if inherited is None else min(deadline, inherited)

"""The blocking client of services."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, ParamSpec, TypeVar, Unpack, overload

from ..messaging.options import ReconnectingClientOptions
from ..protocol.address import Address
from ..protocol.text_headers import HeadersLike
from ..reactor import LoopFactory, new_event_loop
from ..service import client as service
from ..service.binding import bound
from ..service.codec import JSON, Codec
from .channel import Channel
from .closing import Closing
from .feeding import Feeding
from .group import ChannelGroup
from .loop_thread import LoopThread, loop_is_running
from .reconnection import in_a_thread

P = ParamSpec("P")
T = TypeVar("T")

_ONE_ITEM: Final = (str, bytes, bytearray, memoryview, Mapping)
"""Iterables that are no stream."""


class Client(Closing):
    """``tofu_aio.Client`` for programs without asyncio.

        with blocking.Client("tcp://a:7000", "tcp://b:7000") as client:
            small = client.call("resize", job, result=Resized, timeout=2)

    Creating it starts a thread with an event loop, unless it is given a group or a channel, whose
    thread it then uses. It connects at the first call. Any number of threads may use it at the same
    time, except those in which an event loop runs. After a fork the child needs a client of its
    own.

    Ctrl-C interrupts a call and cancels its handler. Context variables of the calling thread are
    those of the call: in a thread that ``asyncio.to_thread`` has started for a handler, a call ends
    when the time of the handler's own call is over.

    Args:
        targets: the addresses of the service; or one channel, over which its peer is called.
        group: the group in which channels are made.
        codec: encodes payloads; JSON by default.
        call_timeout: seconds, for calls that name no other ``timeout``; None, the default, for no
            limit. The option ``timeout`` is for connecting.
        attempts: how often a call is tried, 1 or more; 3 by default.
        streams: how many streams may be open at once; further ones wait. 64 by default.
        loop_factory: see ``Engine``; without a group or channel.
        options: see ``tofu_aio.Client``. Functions for ``headers`` and ``body`` are called in a
            thread of their own, and may block.

    Raises:
        InvalidAddress, TypeError, ValueError: an argument has no meaning. The message names it.
    """

    def __init__(
        self,
        *targets: str | Address | Channel,
        group: ChannelGroup | None = None,
        codec: Codec = JSON,
        call_timeout: float | None = None,
        attempts: int = service.ATTEMPTS,
        streams: int = service.STREAMS,
        loop_factory: LoopFactory = new_event_loop,
        **options: Unpack[ReconnectingClientOptions],
    ) -> None:
        headers, body = options.get("headers"), options.get("body")
        if callable(headers):
            options["headers"] = in_a_thread(headers)
        if callable(body):
            options["body"] = in_a_thread(body)
        make = partial(
            service.Client,
            *(each._channel if isinstance(each, Channel) else each for each in targets),
            group=None if group is None else group._group,
            codec=codec,
            call_timeout=call_timeout,
            attempts=attempts,
            streams=streams,
            **options,
        )
        thread = _thread_of(targets, group)
        self._owns_thread = thread is None
        if thread is None:
            self._client = make()
            engine = self._client.engine
            assert engine is not None
            self._thread = LoopThread(loop_factory, self._client, engine._abort)
            try:
                self._thread.start()
            except BaseException:
                self._thread.close()
                raise
        else:

            async def run() -> service.Client:
                return make()

            self._thread = thread
            self._client = thread.run(run, undo=lambda client: client.aclose())

    @overload
    def call(
        self,
        name: str,
        payload: object = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
        headers: HeadersLike = (),
    ) -> object: ...

    @overload
    def call(
        self,
        name: str,
        payload: object = None,
        *,
        result: type[T],
        timeout: float | None = None,
        idempotent: bool = False,
        headers: HeadersLike = (),
    ) -> T: ...

    def call(
        self,
        name: str,
        payload: object = None,
        *,
        result: type = object,
        timeout: float | None = None,
        idempotent: bool = False,
        headers: HeadersLike = (),
    ) -> object:
        """Call a handler and return its result. See ``tofu_aio.Client.call``.

        Raises:
            ServiceError, TimeoutError, TofuError, TypeError: see ``tofu_aio.Client.call``.
            ShutdownStarted: the client was closed.
        """
        call = partial(
            self._client.call,
            name,
            payload,
            result=result,
            timeout=timeout,
            idempotent=idempotent,
            headers=headers,
        )
        return self._thread.run(call)

    def upload(
        self,
        name: str,
        parts: Iterable[object],
        *,
        result: type[T],
        timeout: float | None = None,
        headers: HeadersLike = (),
    ) -> T:
        """Call a handler with a stream of items, and return its result.

        See ``tofu_aio.Client.upload``. The items are taken in the calling thread, as fast as the
        handler takes them. A time-out is raised once the iterable has returned its item.

        Raises:
            ServiceError, TimeoutError, TofuError, TypeError: as ``call``.
            Exception: that of ``parts``. The handler is then cancelled.
        """
        upload = partial(self._client.upload, name, result=result, timeout=timeout, headers=headers)
        if isinstance(parts, _ONE_ITEM) or not isinstance(parts, Iterable):
            return self._thread.run(partial(upload, parts))  # which says what is wrong with it
        feeding = Feeding(self._thread, parts)
        return feeding.run(partial(upload, feeding.items()))

    def stream(
        self,
        name: str,
        payload: object = None,
        *,
        item: type[T],
        timeout: float | None = None,
        headers: HeadersLike = (),
    ) -> Generator[T]:
        """Call a handler and iterate over the items of its result.

        See ``tofu_aio.Client.stream``. Leaving the loop cancels the handler, and so does
        ``close()`` of the generator. Ctrl-C ends the stream. One thread at a time may iterate.

        Args:
            name: of the handler.
            payload: its argument; or an iterator, if it takes a stream. Its items are taken while
                the thread waits for the next item of the result.
            item: the type of the items.
            timeout: seconds, 0 or more, for everything together.
            headers: as for ``call``.

        Raises:
            ServiceError, TimeoutError, TofuError, TypeError: as ``call``, from the iteration.
        """
        feeding = Feeding(self._thread, payload) if isinstance(payload, Iterator) else None
        stream = partial(
            self._client.stream,
            name,
            payload if feeding is None else feeding.items(),
            item=item,
            timeout=timeout,
            headers=headers,
        )
        return _items(self._thread, self._thread.call(stream), feeding)

    def bind(
        self, interface: Callable[P, T], *, timeout: float | None = None, prefix: str = ""
    ) -> T:
        """An object whose methods call the handlers of the same names, and wait for them.

            class Images(Protocol):
                def resize(self, job: Resize) -> Resized: ...
                def watch(self, query: Query) -> Iterator[Event]: ...
                def store(self, parts: Iterable[bytes]) -> Stored: ...

            small = client.bind(Images).resize(job)

        Args:
            interface: a class, usually a ``Protocol``, with annotated methods of one parameter at
                most.
            timeout: seconds, for each call.
            prefix: what comes before the name of a method in the name of its handler.

        Raises:
            TypeError: a method has no meaning as a call. The message names it.
        """
        return bound(self, interface, timeout, prefix, plain=True)

    def close(self) -> None:
        """Close all channels, with Byes, and end the thread that the client has started.

        Calls that wait in other threads raise ``ChannelClosed`` or ``ShutdownStarted``. Any thread
        may call this, any number of times.
        """
        if self._owns_thread:
            self._thread.close()
        else:
            self._thread.run_closing(self._client.aclose)


def _thread_of(
    targets: Iterable[str | Address | Channel], group: ChannelGroup | None
) -> LoopThread | None:
    """The thread to which channels and a group belong; None if there are none.

    Raises:
        ValueError: they belong to several.
    """
    threads = {each._thread for each in targets if isinstance(each, Channel)}
    if group is not None:
        threads.add(group._thread)
    if len(threads) > 1:
        raise ValueError("the channels and the group are of several engines: give those of one")
    return threads.pop() if threads else None


def _items(thread: LoopThread, stream: AsyncGenerator[T], feeding: Feeding | None) -> Generator[T]:
    """The items of a stream. Leaving it closes the stream."""

    async def receive() -> T:
        return await anext(stream)

    try:
        while True:
            try:
                item = thread.run(receive) if feeding is None else feeding.run(receive)
            except StopAsyncIteration:
                return
            yield item
    finally:
        if not loop_is_running():  # else garbage is being collected, and asyncio closes it
            thread.run_closing(stream.aclose)

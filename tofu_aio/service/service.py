"""A service: handlers by name, served on any number of addresses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import islice
from time import perf_counter
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast
from weakref import WeakSet

import anyio
from anyio.abc import TaskStatus

from ..checks import checked_count, checked_seconds
from ..messaging.accepting.decision import Decide
from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..messaging.limits import MAX_BODY
from ..messaging.listener import Listener
from ..messaging.options import ListenOptions, ServerOptions, split
from ..protocol.address import Address
from . import builtin
from .call import Call, Middleware
from .codec import JSON, Codec
from .counts import ServiceCounts
from .errors import UNAVAILABLE, ServiceError
from .feed import Feed, Start
from .handlers import Handler, checked_name
from .limits import CONCURRENCY, DRAIN, LEAVING_TIME, STREAMS
from .payloads import Codecs
from .places import places_of
from .resources import Resources, Scope, Values
from .session import Session
from .signals import handled
from .slots import Slots
from .statistics import MAX_CALLERS, ServiceStatistics, handlers_of, turns
from .topic import Topic

logger = logging.getLogger("tofu_aio.service")

F = TypeVar("F")
M = TypeVar("M", bound=Middleware)
R = TypeVar("R")


class Service:
    """Handlers that peers call by name.

    ::

        service = tofu.Service()

        @service.handler("resize")
        async def resize(job: Resize) -> Resized:
            ...

        tofu.run(service.serve("tcp://127.0.0.1:7000"))

    The annotations of a handler say what its payload and its result are: a msgspec struct, a
    dataclass, a TypedDict or a plain type, which the codec of the call decodes and encodes; or
    ``bytes`` or ``Message``, as they are. A parameter ``AsyncIterator[T]`` takes a streamed
    request, and a handler that yields has a streamed result. Parameters of the type ``Call``, of
    ``Channel``, or of a resource's type are given that.

    An exception fails its own call only. ``ServiceError`` reaches the caller as it is. Any other
    exception is logged here, and its caller is told that processing failed.

    Args:
        codec: encodes results of calls that came without a payload; JSON by default. A call that
            has a payload is answered in the encoding that it came in.
        statistics: whether any caller may ask for the statistics, as the command ``tofu top``
            does. They name the handlers and the addresses of all callers. False by default.

    Attributes:
        counts: what the service has done.
        engine: whose pool the statistics tell. ``serve`` sets it; set it yourself if you serve with
            ``handle``. None at first.
        draining: whether it is shutting down.
    """

    def __init__(self, *, codec: Codec = JSON, statistics: bool = False) -> None:
        self.codecs = Codecs(codec)
        self.counts = ServiceCounts()
        self.draining = False
        self.engine: Engine | None = None
        self._begun = perf_counter()
        self.handlers: dict[str, Handler] = {}
        self.middleware: list[Middleware] = []
        self.surrounded = False
        self.resources = Resources()
        self._sessions: dict[Session, None] = {}
        self._feeds: WeakSet[Feed] = WeakSet()
        self._stack: AsyncExitStack | None = None  # open while the service is entered
        self._values: Values = {}
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()  # it was stopped twice
        self._serving = False  # whether ``stop`` means anything
        self._limit(CONCURRENCY, None, STREAMS, MAX_BODY)
        builtin.add_to(self, statistics=statistics)

    def handler(self, name: str, *, unbounded: bool = False) -> Callable[[F], F]:
        """Decorate the handler of calls with a name; see ``add``.

        Raises:
            TypeError: the function is not async, or its annotations make no sense.
            ValueError: there is a handler of this name, or the name is empty.
        """
        checked_name(name)

        def register(function: F) -> F:
            self._check_unused(name)
            self.add(name, function, unbounded=unbounded)
            return function

        return register

    def add(
        self, name: str, function: object, *, unbounded: bool = False, content_type: str = ""
    ) -> None:
        """Add a handler, as ``handler`` does.

        Args:
            name: by which it is called.
            function: the handler.
            unbounded: whether its calls do not count towards ``concurrency`` and ``streams``: for
                handlers that must answer at any time, or that wait for what another call does.
            content_type: of a streamed result; by default the caller's own.
        """
        injected = {Call, Channel, *self.resources.types}
        handler = Handler(name, function, injected, unbounded=unbounded, content_type=content_type)
        self.codecs.check_type(handler.payload_type, f"the payload of {name!r}")
        self.codecs.check_type(handler.signature.result.type, f"the result of {name!r}")
        self.handlers[name] = handler

    def topic(self, name: str, topic: Topic) -> None:
        """Let clients subscribe to a topic by a name: ``client.subscribe(name, ...)``.

        Subscriptions count towards the ``max_subscribers`` of the topic only. Middleware is called
        around each of them. When the service drains, they are ended with the code
        ``unavailable``, and clients subscribe elsewhere. A topic may have several names, and be
        served by several services.

        Raises:
            ValueError: there is a handler of this name, or the name is empty.
            TypeError: ``topic`` is no Topic.
        """
        if not isinstance(topic, Topic):
            raise TypeError(f"topic is {topic!r}: give a tofu.Topic")

        async def subscribe(start: Start = Start()) -> AsyncIterator[object]:  # noqa: B008
            if self.draining:
                raise ServiceError(UNAVAILABLE, "the service is shutting down")
            feed = Feed(topic, start)
            self._feeds.add(feed)
            return cast("AsyncIterator[object]", feed)

        checked_name(name)
        self._check_unused(name)
        self.add(name, subscribe, unbounded=True, content_type=topic.content_type)

    def _check_unused(self, name: str) -> None:
        if name in self.handlers and not name.startswith(builtin.PREFIX):
            raise ValueError(f"there is a handler {name!r} already: choose another name")

    def use(self, middleware: M) -> M:
        """Decorate middleware: ``async def middleware(call, next)``, called around each call.

        It returns what ``await next(call)`` returns, or raises, for example a ``ServiceError`` to
        refuse the call. What was added first is called first. The health check has none.

        Raises:
            TypeError: it is not a function.
        """
        if not callable(middleware):
            raise TypeError(f"middleware is {middleware!r}: give an async function")
        self.middleware.append(middleware)
        self.surrounded = True
        return middleware

    def resource(self, scope: Scope = "service") -> Callable[[R], R]:
        """Decorate an async context manager that makes something handlers ask for by its type.

        ::

            @service.resource("service")
            @asynccontextmanager
            async def database() -> AsyncIterator[Database]:
                async with Database() as opened:
                    yield opened

        Add it before the handlers and the resources that ask for it.

        Args:
            scope: how long it is open: as long as the service, the caller's channel, or the call.

        Raises:
            TypeError: it is no such function, or asks for something that is not at hand.
            ValueError: there is no such scope.
            RuntimeError: it is one of the service, which is served already.
        """
        if callable(scope):
            raise TypeError('the resource has no scope: write @service.resource("service")')

        def register(factory: R) -> R:
            if scope == "service" and self._stack is not None:
                raise RuntimeError("the service is served already: add its resources before that")
            self.resources.add(scope, factory)
            self.surrounded = self.surrounded or scope == "call"
            return factory

        return register

    # --- serving --------------------------------------------------------------------------

    async def serve(
        self,
        *addresses: str | Address,
        concurrency: int = CONCURRENCY,
        channel_concurrency: int | None = None,
        streams: int = STREAMS,
        drain: float = DRAIN,
        decide: Decide | None = None,
        task_status: TaskStatus[list[Address]] = anyio.TASK_STATUS_IGNORED,
        **options: Unpack[ServerOptions],
    ) -> None:
        """Serve calls on all addresses until SIGTERM, SIGINT, or a cancellation.

        At the first signal the service drains: it accepts no more channels, tells its peers to go
        elsewhere, lets running calls end, and says Bye. A second signal ends it at once. Signals
        that have a handler already, and those outside the main thread, are left alone.

        Args:
            addresses: where to listen: ``tcp://host:port``, ``uds:///path``, or ``fd://3``.
            concurrency: how many calls may run at once. Further ones wait in their channels, which
                slows their senders down. 256 by default. Streams do not count.
            channel_concurrency: how many of them may be one channel's. By default half, so that
                one caller leaves room for others.
            streams: how many streamed requests and results there may be at once; 1,024 by default.
                One more is refused with the code ``resource_exhausted``.
            drain: seconds, 0 or more, that running calls have to end once the service stops.
            decide: examines a caller before its channel is accepted; see ``Listener.serve``.
            task_status: of anyio: ``await task_group.start(service.serve, ...)`` returns the
                addresses, with the ports that the system chose.
            options: those of ``ChannelGroup.listen`` and of ``Engine``: see ``ServerOptions``.

        Raises:
            TofuError, TypeError, ValueError: as ``ChannelGroup.listen`` and ``Engine``.
        """
        checked_seconds("drain", drain)
        limits, rest = split("serve", options, ListenOptions)
        if not addresses and rest.get("sock") is None:
            raise TypeError("serve() needs an address to listen on: 'tcp://127.0.0.1:7000'")
        async with self, Engine(**limits) as engine, engine.create_group() as group:
            self._limit(concurrency, channel_concurrency, streams, limits.get("max_body", MAX_BODY))
            self.engine, self._serving = engine, True
            try:
                places = places_of(addresses, rest)
                listeners = [await group.listen(*where, **own) for where, own in places]
                await self._serve(listeners, drain, decide, task_status)
            finally:
                self._serving = False

    async def _serve(
        self,
        listeners: Sequence[Listener],
        seconds: float,
        decide: Decide | None,
        task_status: TaskStatus[list[Address]],
    ) -> None:
        places = [listener.address for listener in listeners]
        logger.info("serving on %s", ", ".join(map(str, places)))
        async with asyncio.TaskGroup() as tasks:
            serving = [
                tasks.create_task(listener.serve(self.handle, decide=decide))
                for listener in listeners
            ]
            with handled(self.stop):
                # Not before: whoever waits for this may send a signal at once.
                task_status.started(places)
                await self._stopped.wait()
                logger.info("draining, for %g s at most", seconds)
                draining = [tasks.create_task(each.drain(seconds)) for each in listeners]
                await self.drain()
                await asyncio.wait([*draining, *serving])

    def stop(self) -> None:
        """Do what SIGTERM does: ``serve`` drains, and then returns. A second call ends it at once.

        Call it in the event loop's thread. It does nothing while ``serve`` does not run.
        """
        if not self._serving:
            return
        if self._stopped.is_set():
            self._hurried.set()
            self._abort()
        self._stopped.set()

    async def drain(self) -> None:
        """Close each channel once its running calls have ended. New channels are served.

        Peers have a second to leave by themselves. Calls that come meanwhile are served.

        ``serve`` does this when it is stopped. Call it after ``listener.drain()`` has begun if you
        serve with ``handle``.
        """
        self.draining = True
        for feed in list(self._feeds):
            feed.end(ServiceError(UNAVAILABLE, "the service is shutting down"))
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_TIME):
                await self._hurried.wait()
        async with asyncio.TaskGroup() as closing:
            for session in self._sessions:
                closing.create_task(session.drain())

    async def handle(self, channel: Channel) -> None:
        """Serve the calls of one channel until its end, as a handler for ``Listener.serve``.

        The channel may also be one that was made with ``connect``: then its listener calls.

        Raises:
            PeerDisconnected, ProtocolViolation: the peer was lost, or broke the protocol.
            RuntimeError: the service has resources and was not entered with ``async with``.
        """
        if self._stack is None and self.resources.any("service"):
            raise RuntimeError("the service has resources: use it inside 'async with service'")
        session = Session(self, channel, self._bound)
        self._sessions[session] = None
        try:
            await session.run({**self._values, Channel: channel})
        finally:
            del self._sessions[session]

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise RuntimeError("the service is served already: make another Service")
        self._stopped, self._hurried = asyncio.Event(), asyncio.Event()
        self.draining = False
        self._stack = AsyncExitStack()
        try:
            resources = self.resources.opened("service", {})
            self._values = await self._stack.enter_async_context(resources)
        except BaseException:
            self._stack = None
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stack, self._stack, self._values = self._stack, None, {}
        assert stack is not None
        await stack.__aexit__(exc_type, exc_value, traceback)

    def _limit(
        self, concurrency: int, channel_concurrency: int | None, streams: int, max_body: int
    ) -> None:
        checked_count("concurrency", concurrency)
        if channel_concurrency is None:
            channel_concurrency = (concurrency + 1) // 2
        self._bound = checked_count("channel_concurrency", channel_concurrency)
        self.slots = Slots(concurrency)
        self.streams = Slots(checked_count("streams", streams, 0))
        self.max_body = max_body

    def statistics(self) -> ServiceStatistics:
        """A snapshot of the service. Its cost grows with the number of channels.

        Raises:
            RuntimeError: no event loop is running here.
        """
        return ServiceStatistics(
            seconds=perf_counter() - self._begun,
            draining=self.draining,
            queued=self.counts.queued,
            refusals=dict(self.counts.refusals),
            handlers=handlers_of(self.handlers, self.counts),
            callers=[each.statistics() for each in islice(self._sessions, MAX_CALLERS)],
            channels=len(self._sessions),
            engine=None if self.engine is None else self.engine.statistics(),
            loop=turns(),
        )

    def _abort(self) -> None:
        """End all channels at once."""
        for session in self._sessions:
            session.abort()

    def __repr__(self) -> str:
        names = [name for name in self.handlers if not name.startswith(builtin.PREFIX)]
        return f"<Service {', '.join(names) or 'without handlers'}>"

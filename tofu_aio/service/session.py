"""The calls that arrive on one channel."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Final, Protocol

from ..messaging.channel import Channel
from ..messaging.exchange import Exchange
from ..protocol.errors import ChannelClosed, TofuError
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from ..protocol.text_headers import TextHeaders
from . import execution
from .call import DEADLINE, Deadline, is_cancelled
from .counts import ServiceCounts
from .errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    OK,
    RESOURCE_EXHAUSTED,
    ServiceError,
)
from .execution import STREAMED, Request, decoded, exchange_for, execute
from .handlers import Bound, Handler
from .headers import CallHeaders, read
from .reporting import break_off, failure_of, leave, report, unknown
from .resources import Values
from .slots import Slots
from .statistics import CallerStatistics, caller_of
from .tasks import Running, new_task

logger = logging.getLogger("tofu_aio.service")

_NOT_CAUGHT: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)

_REQUEST: Final = OpCode.REQUEST

ANSWERS: Final = 64
"""Answers of a channel that wait until its peer takes more, while further calls are begun. Each has
a task and a result in memory."""

AT_ONCE: Final = 32
"""Calls of a channel that are begun before other tasks, and other channels, have a turn."""

UNWINDING_TIME: Final = 5.0
"""Seconds that handlers have to end once they were cancelled. One that goes on is reported and
left to itself."""


class Host(execution.Host, Protocol):
    """What a session needs of its service."""

    counts: ServiceCounts
    handlers: dict[str, Handler]
    slots: Slots
    streams: Slots


class Session:
    """Runs the calls of one channel concurrently.

    Args:
        host: the service.
        channel: open.
        bound: how many calls of this channel may run at once.
    """

    def __init__(self, host: Host, channel: Channel, bound: int) -> None:
        self._host = host
        self._channel = channel
        self._values: Values = {}
        self._slots = Slots(bound)
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], None] = {}  # in order, so that runs are repeatable
        self._waits = True  # a call waits for its turn, or the channel for its resources
        self._answering = 0  # answers that wait until the peer takes more
        self._answered: asyncio.Future[None] | None = None  # while ``run`` waits for that
        self._idle: asyncio.Future[None] | None = None  # while ``drain`` waits for it

    async def run(self, values: Values) -> None:
        """Run the calls of the channel until its end, and wait for those that are running.

        Args:
            values: the channel, and the resources of the service.

        Raises:
            TofuError: the peer was lost.
        """
        inherited = DEADLINE.set(None)  # of whoever runs this: that is no deadline of the calls
        try:
            async with self._host.resources.opened("channel", values) as self._values:
                self._wait_no_more()
                try:
                    await self._receive()
                except ChannelClosed:
                    pass  # on this side
                finally:
                    await self._cancel()
        finally:
            self._wait_no_more()
            DEADLINE.reset(inherited)

    async def _receive(self) -> None:
        left = AT_ONCE
        async for message in self._channel:
            left -= 1
            if not left:
                left = AT_ONCE
                self._waits = True  # the call of this message
                await asyncio.sleep(0)
            if message.op_code is _REQUEST:
                waits = self._begin(message)
                if waits is not None:
                    self._waits = True
                    await waits
                if self._answering >= ANSWERS:
                    await self._until_answered()
            else:
                message.release()  # a signal, which no handler is for
            if self._waits:
                self._wait_no_more()
            del message
        # The peer said Bye. If it still receives, it gets the results; if it does not, the
        # channel has cancelled their tasks.
        while self._tasks:
            await asyncio.wait(self._tasks)

    def statistics(self) -> CallerStatistics:
        """A snapshot of the channel, with the number of its running calls."""
        return caller_of(self._channel, len(self._tasks))

    async def drain(self) -> None:
        """Close the channel once its calls have ended, those that wait for their turn too."""
        while self._tasks or self._waits:
            if self._idle is None or self._idle.done():
                self._idle = self._loop.create_future()
            # Several tasks may drain. After this the next request may have begun already.
            await asyncio.shield(self._idle)
        await self._channel.aclose()

    def abort(self) -> None:
        """Reset the channel."""
        self._channel.abort()

    async def _cancel(self) -> None:
        """Cancel the calls that are running, and wait for their tasks."""
        for task in self._tasks:
            if not task.cancelling():  # otherwise it would be interrupted while it cleans up
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=UNWINDING_TIME)
        for task in self._tasks:
            logger.error("a handler goes on %g s after it was cancelled: %r", UNWINDING_TIME, task)
        self._tasks.clear()

    async def _until_answered(self) -> None:
        """Wait until the peer has taken answers: one that takes none gets no more calls begun."""
        while self._answering >= ANSWERS:
            self._answered = self._loop.create_future()
            await self._answered

    def _wait_no_more(self) -> None:
        self._waits = False
        self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not (self._tasks or self._waits or self._idle.done()):
            self._idle.set_result(None)

    # --- from a request to a task ---------------------------------------------------------

    def _begin(self, message: Message) -> Running | None:
        """Start a call, or return a coroutine that waits until there is room for it."""
        host, own = self._host, self._slots
        told = read(message.headers)
        handler = host.handlers.get(told.name)
        # Made before the next message is received: the parts of the request go to it.
        exchange = None
        if message.more or (handler is not None and handler.streams):
            try:
                exchange = exchange_for(host, self._channel, message, handler, told)
            except TofuError as reused:  # the peer uses the id of a request that is not over
                logger.info("channel %d: a request was dropped: %s", self._channel.number, reused)
                message.release()
                return None
        deadline = None if told.timeout is None else self._loop.time() + told.timeout
        if handler is None or told.error is not None:
            self._refuse(message, exchange, told, told.error or unknown(told.name))
            return None
        request = Request(handler, told, message, exchange, deadline)
        if handler.bound is Bound.SLOTS:
            if not (own.free and host.slots.free):
                return self._wait(request)
            own.free -= 1
            host.slots.free -= 1
            request.slot = host.slots
        elif handler.bound is Bound.STREAMS:
            # A stream may last for days. So streams do not take the slots of calls, and one too
            # many is refused: if it waited, all calls behind it would.
            if not host.streams.free:
                error = ServiceError(RESOURCE_EXHAUSTED, "too many streams are open")
                self._refuse(message, exchange, told, error)
                return None
            host.streams.free -= 1
            request.slot = host.streams
        self._start(request)
        return None

    async def _wait(self, request: Request) -> None:
        """Start a call once there is a slot of the channel and one of the service."""
        begun = perf_counter()
        message, common = request.message, self._host.slots
        try:
            async with asyncio.timeout_at(request.deadline):
                await self._slots.acquire()
                try:
                    await common.acquire()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            error = ServiceError(DEADLINE_EXCEEDED, "the call waited too long for its turn")
            self._refuse(message, request.exchange, request.told, error)
            return
        except asyncio.CancelledError:
            message.release()
            if request.exchange is not None:
                await request.exchange.aclose()
            raise
        finally:
            self._host.counts.queued += perf_counter() - begun
        request.slot = common
        if self._channel.cancelled(message):
            self._release(request)
            error = ServiceError(CANCELLED, "the caller has given up")
            self._refuse(message, request.exchange, request.told, error)
        else:
            self._start(request)

    def _start(self, request: Request) -> None:
        """Run a call that has its slots, in a task which is cancelled with it."""
        task = new_task(self._run(request), self._loop)
        if task.done():
            self._release(request)
        else:
            self._keep(task, request.message, request.exchange)
            # Not in the task, which is cancelled before it begins if its caller is quick.
            task.add_done_callback(lambda _: self._release(request))

    def _refuse(
        self,
        message: Message,
        exchange: Exchange | None,
        told: CallHeaders,
        error: ServiceError,
    ) -> None:
        self._host.counts.refused(error.code)
        task = new_task(self._report_refusal(message, exchange, told, error), self._loop)
        if not task.done():
            self._keep(task, message, exchange)

    def _keep(self, task: asyncio.Task[None], message: Message, exchange: Exchange | None) -> None:
        """Keep a task until it is done. It is cancelled when the caller gives up or is lost."""

        def done(_: asyncio.Task[None]) -> None:
            self._tasks.pop(task, None)
            if task.cancelled():  # and has not even begun, perhaps, on Python 3.11
                message.release()
                if exchange is not None:
                    leave(exchange)
            self._check_idle()

        self._tasks[task] = None
        task.add_done_callback(done)
        self._channel.cancel_with(message, task)

    def _release(self, request: Request) -> None:
        """Give back all slots of a call."""
        _give_back(request)
        if request.handler.bound is Bound.SLOTS:
            self._slots.release()

    # --- one call -------------------------------------------------------------------------

    async def _run(self, request: Request) -> None:
        """Run a call to its end, whatever that is, and report it to the caller."""
        host, handler, message = self._host, request.handler, request.message
        counts, exchange = host.counts, request.exchange
        begun = perf_counter()
        code, failure, answer = CANCELLED, None, None
        counts.running += 1
        handler.running += 1
        try:
            try:
                result: object
                if (
                    request.deadline is None
                    and exchange is None
                    and handler.simple
                    and not host.surrounded
                ):
                    # What ``_executed`` would do. Most calls take this way, and it saves a quarter.
                    result = await handler.function(decoded(host, request, message.body))
                else:
                    result = await self._executed(request)
                if result is not STREAMED:
                    handler.check_result(result)
                    answer = host.codecs.encode_result(request.told.content_type, result)
                code = OK
            except BaseException as error:
                if is_cancelled(error) or isinstance(error, _NOT_CAUGHT):
                    if exchange is None:  # else that tells the caller
                        break_off(self._channel, message)
                    raise
                failure = failure_of(self._channel, request, error)
                code = failure.code if failure is not None else CANCELLED
            # Not after the answer: a peer that does not take it must not stop the calls of others.
            _give_back(request)
            if failure is not None or answer is not None:
                await self._answer(request, answer, failure)
        finally:
            message.release()
            if exchange is not None:
                await exchange.aclose()
            failure = None  # else it would keep its own traceback alive
            counts.running -= 1
            handler.running -= 1
            counts.ended(handler.name, code, perf_counter() - begun)

    async def _executed(self, request: Request) -> object:
        """Run a call within its deadline; return its result, or ``STREAMED``."""
        if request.deadline is None:
            return await execute(self._host, self._channel, self._values, request)
        deadline = Deadline(request.deadline)
        DEADLINE.set(deadline)
        try:
            async with asyncio.timeout_at(request.deadline):
                return await execute(self._host, self._channel, self._values, request)
        finally:
            deadline.until = None  # tasks that the handler leaves behind are not bound by it

    async def _answer(
        self,
        request: Request,
        answer: tuple[TextHeaders, bytes] | None,
        failure: ServiceError | None,
    ) -> None:
        """Send the result or the error of a call, once the peer takes it."""
        channel, codecs = self._channel, self._host.codecs
        self._answering += 1
        try:
            if failure is not None:
                where = request.message, request.exchange
                await report(channel, codecs, where, request.told.content_type, failure)
            elif answer is not None:
                headers, body = answer
                if request.exchange is None:
                    await channel.reply(request.message, body, headers)
                else:
                    await request.exchange.finish(body, headers)
        except TofuError:
            pass  # the caller is gone, or the handler has replied
        finally:
            self._answering -= 1
            if self._answered is not None and not self._answered.done():
                self._answered.set_result(None)

    async def _report_refusal(
        self,
        message: Message,
        exchange: Exchange | None,
        told: CallHeaders,
        error: ServiceError,
    ) -> None:
        """Fail a call that was not begun."""
        try:
            where = message, exchange
            await report(self._channel, self._host.codecs, where, told.content_type, error)
        finally:
            message.release()
            if exchange is not None:
                await exchange.aclose()


def _give_back(request: Request) -> None:
    """Give back the slot of the service, if it was not done yet."""
    slot, request.slot = request.slot, None
    if slot is not None:
        slot.release()

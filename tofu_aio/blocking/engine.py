"""The blocking engine."""

from __future__ import annotations

from typing import Literal, Self, Unpack, overload

from ..messaging import engine as messaging
from ..messaging.limits import POOL_MESSAGES, OtherLimits
from ..messaging.statistics import EngineStatistics
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from ..protocol.pool import Allocation
from ..reactor import LoopFactory, new_event_loop
from .closing import Closing
from .group import ChannelGroup
from .loop_thread import LoopThread


class Engine(Closing):
    """``tofu_aio.Engine`` for programs without asyncio: ``with Engine() as engine``.

    Entering the engine starts a thread with an event loop. Leaving it closes every channel, with
    a Bye, and ends the thread; a program that does not leave it does so at exit. An engine can be
    entered only once.

    Any thread may use the engine and the objects that it creates, except a thread in which an
    event loop runs, because the calls would block that loop. After a fork the child needs an
    engine of its own.

    Args:
        pool_messages: how many received messages may be alive at once, over all channels.
        loop_factory: creates the event loop; ``tofu_aio.loop_factory("auto")`` is the fastest
            loop that is installed.
        limits: the other limits, by name; ``tofu_aio.EngineOptions`` describes each.

    Raises:
        TypeError, ValueError: a limit is not valid; the message says which.
    """

    def __init__(
        self,
        pool_messages: int = POOL_MESSAGES,
        *,
        loop_factory: LoopFactory = new_event_loop,
        **limits: Unpack[OtherLimits],
    ) -> None:
        self._engine = messaging.Engine(pool_messages, **limits)
        self._thread = LoopThread(loop_factory, self._engine, self._engine._abort)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def create_group(self) -> ChannelGroup:
        """Return a new, empty group. It is a context manager.

        Raises:
            ShutdownStarted: the engine was not entered yet, or is closed.
        """

        async def create() -> ChannelGroup:
            return ChannelGroup(self._thread, self._engine.create_group())

        return self._thread.run(create, undo=lambda group: group._group.aclose())

    @overload
    def get(
        self, allocation: Literal[Allocation.ALWAYS] = ..., op_code: OpCode = ...
    ) -> Message: ...

    @overload
    def get(self, allocation: Allocation, op_code: OpCode = ...) -> Message | None: ...

    def get(
        self, allocation: Allocation = Allocation.ALWAYS, op_code: OpCode = OpCode.REQUEST
    ) -> Message | None:
        """Return a new, empty message for sending. See ``tofu_aio.Engine.get``."""
        return self._engine.get(allocation, op_code)

    def put(self, message: Message | None) -> None:
        """Give a message's permit back. See ``tofu_aio.Engine.put``."""
        self._engine.put(message)

    def statistics(self) -> EngineStatistics:
        """Return a snapshot of the pool and the channels."""
        return self._engine.statistics()

    def close(self) -> None:
        """Close every group and end the thread.

        Takes a bounded time. Any thread may call this, any number of times. Calls that wait in
        other threads raise ``ChannelClosed`` or ``ShutdownStarted``.

        If Ctrl-C interrupts it, the channels that are still open are aborted, so that the thread
        ends in a moment; this call does not wait for that. If Ctrl-C arrives before its first
        step, the call has no effect.
        """
        self._thread.close()

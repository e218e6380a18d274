"""The engine, with a thread for its loop."""

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

    Entering it starts a thread with an event loop, leaving it closes everything, with Byes, and
    ends the thread. A program that ends without leaving it does that at its exit. It may be
    entered once.

    Any thread may use it and all that it makes, but not one in which an event loop runs: that
    would stop. It does not survive a fork: the child needs an engine of its own.

    Args:
        pool_messages: how many received messages may be alive at once, over all channels.
        loop_factory: makes the loop; ``tofu_aio.loop_factory("auto")`` is the fastest installed.
        limits: the other limits, by name; ``tofu_aio.EngineOptions`` describes each.

    Raises:
        TypeError, ValueError: a limit makes no sense: the message says which.
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
        """A new, empty group; a context manager.

        Raises:
            ShutdownStarted: the engine is not entered yet, or closed already.
        """

        async def create() -> ChannelGroup:
            return ChannelGroup(self._thread, self._engine.create_group())

        return self._thread.ask(create, unheard=lambda group: group._group.aclose())

    @overload
    def get(
        self, allocation: Literal[Allocation.ALWAYS] = ..., op_code: OpCode = ...
    ) -> Message: ...

    @overload
    def get(self, allocation: Allocation, op_code: OpCode = ...) -> Message | None: ...

    def get(
        self, allocation: Allocation = Allocation.ALWAYS, op_code: OpCode = OpCode.REQUEST
    ) -> Message | None:
        """A new, empty message for sending. As ``tofu_aio.Engine.get``."""
        return self._engine.get(allocation, op_code)

    def put(self, message: Message | None) -> None:
        """Give a message's permit back. As ``tofu_aio.Engine.put``."""
        self._engine.put(message)

    def statistics(self) -> EngineStatistics:
        """A snapshot of the pool and the channels."""
        return self._engine.statistics()

    def close(self) -> None:
        """Close every group and end the thread. Bounded, repeatable, from any thread.

        Who waits in another thread learns it by ``ChannelClosed`` or ``ShutdownStarted``.
        Interrupted by Ctrl-C it aborts what is left, so that the thread ends in a moment; it does
        not wait for that. Only if Ctrl-C comes before its first step nothing is done, as if it had
        not been called.
        """
        self._thread.close()

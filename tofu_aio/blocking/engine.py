"""The engine, with a thread for its loop."""

from __future__ import annotations

from typing import Literal, Self, overload

from ..messaging import engine as messaging
from ..messaging.limits import CHANNEL_SHARE, POOL_BYTES, POOL_MESSAGES, WRITE_HIGH_WATER
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
        pool_bytes: how many bytes they may have together.
        channel_share: the part of what others leave of the pool that one channel may hold.
        write_high_water: bytes that wait to be sent on a channel before ``send`` waits too.
        write_low_water: bytes at which it goes on; a quarter of that, unless given.
        loop_factory: makes the loop; ``tofu_aio.loop_factory("auto")`` is the fastest installed.

    Raises:
        TypeError, ValueError: a limit makes no sense: the message says which, and
            ``tofu_aio.Engine`` what each may be.
    """

    def __init__(
        self,
        pool_messages: int = POOL_MESSAGES,
        *,
        pool_bytes: int = POOL_BYTES,
        channel_share: float = CHANNEL_SHARE,
        write_high_water: int = WRITE_HIGH_WATER,
        write_low_water: int | None = None,
        loop_factory: LoopFactory = new_event_loop,
    ) -> None:
        self._engine = messaging.Engine(
            pool_messages,
            pool_bytes=pool_bytes,
            channel_share=channel_share,
            write_high_water=write_high_water,
            write_low_water=write_low_water,
        )
        self._thread = LoopThread(loop_factory, self._engine)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def create_group(self) -> ChannelGroup:
        """A new, empty group; a context manager.

        Raises:
            ShutdownStarted: the engine is not entered yet, or closed already.
        """
        return ChannelGroup(self._thread, self._thread.call(self._engine.create_group))

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
        Interrupted by Ctrl-C it aborts what is left.
        """
        self._thread.close()

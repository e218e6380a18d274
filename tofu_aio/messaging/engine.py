"""The engine: one pool, any number of groups."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal, Self, cast, overload

from ..protocol.errors import ShutdownStarted
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from ..protocol.pool import Allocation, Reader
from .connection import Connection
from .flow import ReadGate
from .group import ChannelGroup
from .limits import POOL_MESSAGES, checked_count
from .numbers import NumberedTable
from .statistics import EngineStatistics


class Engine:
    """Owns the bounded pool and the groups of channels that share it.

    An async context manager; it belongs to the loop it is entered in. Leaving it closes
    everything that it has, with Byes, bounded in time. ``get`` and ``put`` may be called from any
    thread.

    Args:
        pool_messages: how many received messages may be alive at once, over all channels. While
            they are, channels are not read, and their peers feel it. At least 1. Each may take
            131,086 bytes; see ``docs/design/messaging.md`` for the whole bound.

    Raises:
        TypeError, ValueError: ``pool_messages`` is no whole number, or less than 1.
    """

    def __init__(self, pool_messages: int = POOL_MESSAGES) -> None:
        self._gate = ReadGate(checked_count("pool_messages", pool_messages), self._exhausted)
        self._numbers: NumberedTable[ChannelGroup] = NumberedTable()
        self._groups: dict[ChannelGroup, None] = {}  # in order: closing is the same each time
        self._open = False

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<Engine {'open' if self._open else 'closed'} channels={now.channels} "
            f"free={now.pool_free}/{now.pool_size}>"
        )

    async def __aenter__(self) -> Self:
        self._gate.open()
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def create_group(self) -> ChannelGroup:
        """A new, empty group; an async context manager.

        Raises:
            ShutdownStarted: the engine is not entered yet, or closed already.
        """
        if not self._open:
            raise ShutdownStarted("the engine is not running: use it inside 'async with Engine()'")
        group = ChannelGroup(self._gate, self._numbers, self._forget)
        self._groups[group] = None
        return group

    @overload
    def get(
        self, allocation: Literal[Allocation.ALWAYS] = ..., op_code: OpCode = ...
    ) -> Message: ...

    @overload
    def get(self, allocation: Allocation, op_code: OpCode = ...) -> Message | None: ...

    def get(
        self, allocation: Allocation = Allocation.ALWAYS, op_code: OpCode = OpCode.REQUEST
    ) -> Message | None:
        """A new, empty message for sending. From any thread.

        With POOL_ONLY it counts as one of the ``pool_messages`` that may be alive at once: it
        holds a permit until it is sent, released, put back or garbage-collected. So a program can
        bound what it makes together with what it receives.

        Args:
            allocation: ALWAYS, or POOL_ONLY.
            op_code: what the message does.

        Returns:
            The message; with POOL_ONLY, None while no permit is free, or channels wait for one.
        """
        message = Message(op_code)
        if allocation is Allocation.POOL_ONLY:
            if not self._gate.pool.take():
                return None
            message._pool = self._gate.pool
        return message

    def put(self, message: Message | None) -> None:
        """Give a message's permit back, as ``message.release()`` does. From any thread.

        What ``get`` may return can be put back without a look: None, a message that was sent, or
        put back before, is no error.
        """
        if message is not None:
            message.release()

    async def aclose(self) -> None:
        """Close every group, all at once. Bounded, repeatable."""
        self._open = False
        async with asyncio.TaskGroup() as closing:
            for group in list(self._groups):
                closing.create_task(group.aclose())

    def statistics(self) -> EngineStatistics:
        """A snapshot of the pool and the channels."""
        pool = self._gate.pool
        return EngineStatistics(
            pool_size=pool.size,
            pool_free=len(pool.free),
            waiting=len(pool.waiters),
            suspensions=self._gate.suspensions,
            channels=len(self._numbers),
        )

    def _forget(self, group: ChannelGroup) -> None:
        self._groups.pop(group, None)

    def _exhausted(self, reader: Reader) -> bool:
        number = cast("Connection", reader).number
        group = self._numbers.get(number)
        return group is not None and group.pool_exhausted(number)

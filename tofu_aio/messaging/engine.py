"""The engine: one pool, any number of groups."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self, Unpack, cast, overload

from .. import forks
from ..checks import checked_names
from ..protocol.errors import ShutdownStarted
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from ..protocol.pool import Allocation, Reader
from ..transport.socket_module import socket_module
from .connection.suspension import Suspension
from .flow_control.read_gate import ReadGate
from .flow_control.stall_report import Held, held_by_application, in_words
from .flow_control.usage import PoolUsage
from .forked_child import leave_to_parent
from .group import ChannelGroup
from .limits import POOL_MESSAGES, EngineOptions, Limits, OtherLimits
from .members import Members
from .numbers import NumberedTable
from .statistics import EngineStatistics
from .threads.owner_loop import NOT_YOURS

logger = logging.getLogger("tofu_aio.pool")


class Engine:
    """Owns the bounded pool and the groups of channels that share it.

    An async context manager; it belongs to the loop it is entered in. Leaving it closes
    everything that it has, with Byes, bounded in time. Once left, or once its loop is closed, it
    may be entered again, and begins anew. ``get`` and ``put`` may be called from any thread. It
    stays with the process it is entered in: a forked child needs one of its own, and has nothing
    of its parent's connections.

    Args:
        pool_messages: how many received messages may be alive at once, over all channels.
        limits: the other limits, by name: ``pool_bytes``, ``channel_share`` and so on.
            ``EngineOptions`` describes each.

    Raises:
        TypeError, ValueError: one of them makes no sense: the message says which.
    """

    def __init__(self, pool_messages: int = POOL_MESSAGES, **limits: Unpack[OtherLimits]) -> None:
        checked_names("Engine", limits, EngineOptions.__optional_keys__)
        self._open = False
        self._begin_anew(Limits(pool_messages, **limits))

    def _begin_anew(self, limits: Limits) -> None:
        """Have nothing, and share nothing with a loop that was."""
        self._gate = ReadGate(limits, self._exhausted, self._accuse)
        self._numbers: NumberedTable[Members] = NumberedTable()
        self._groups: dict[ChannelGroup, None] = {}  # in order: closing is the same each time

    def __repr__(self) -> str:
        pool = self._gate.pool
        return (
            f"<Engine {'open' if self._open else 'closed'} channels={len(self._numbers)} "
            f"free={len(pool.free)}/{pool.size}>"
        )

    async def __aenter__(self) -> Self:
        if self._gate.owner_loop.in_parent:
            raise ShutdownStarted(NOT_YOURS)
        owner_loop = self._gate.owner_loop
        if self._open and owner_loop.alive:
            raise RuntimeError(
                "the engine was entered before and not left: share what was entered, or make "
                "another engine"
            )
        if owner_loop.thread and not owner_loop.is_here():
            left = bool(self._groups)
            self._begin_anew(self._gate.limits)
            if left:
                gc.collect()  # else their sockets, and so their addresses, stay in use for a while
        self._gate.open()
        self._open = True
        if socket_module() is socket:  # and not a simulated world's, whose descriptors are none
            _entered.add(self)
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
            ShutdownStarted: the engine is not entered yet, or closed already, or a parent's.
        """
        if self._gate.owner_loop.in_parent:
            raise ShutdownStarted(NOT_YOURS)
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
            if not self._gate.pool.acquire():
                return None
            message._permit = self._gate.pool
        return message

    def put(self, message: Message | None) -> None:
        """Give a message's permit back, as ``message.release()`` does. From any thread.

        What ``get`` may return can be put back without a look: None, a message that was sent, or
        put back before, is no error.
        """
        if message is not None:
            message.release()

    async def aclose(self) -> None:
        """Close every group, all at once. Bounded, repeatable.

        In a forked child nothing is done: what there is belongs to the parent.
        """
        if self._gate.owner_loop.in_parent:
            return
        self._open = False
        async with asyncio.TaskGroup() as closing:
            for group in list(self._groups):
                closing.create_task(group.aclose())
        self._end()

    def _abort(self) -> None:
        """Reset every connection, so that closing waits for no peer."""
        for group in list(self._groups):
            group._abort()

    def _end(self) -> None:
        """Nothing of it is open any more, and nothing will be."""
        self._open = False
        self._gate.close()

    def statistics(self) -> EngineStatistics:
        """A snapshot of the pool and the channels. It takes longer the more of them there are."""
        gate = self._gate
        pool = gate.pool
        free, reserves = len(pool.free), len(pool.reserves)
        own = sum((group._usage(pool) for group in self._groups), PoolUsage())
        return EngineStatistics(
            pool_size=pool.size,
            pool_free=free,
            reserves=reserves,
            inbox=own.inbox,
            application=pool.size + reserves - free - own.inbox - own.outgoing,
            outgoing=own.outgoing,
            awaited=sum(group._members.awaited() for group in self._groups),
            held_bytes=own.nbytes,
            joining_bytes=gate.joining.used,
            waiting=len(pool.waiters),
            over_share=len(pool.parked),
            suspensions=gate.suspensions,
            longest_wait=gate.longest_wait_by_now(),
            channels=len(self._numbers),
            refused=gate.refused,
        )

    def _accuse(self, seconds: float) -> None:
        """Say who holds the permits that others have waited for too long."""
        pool = self._gate.pool
        now = self.statistics()
        unreceived = [message for group in self._groups for message in group._unreceived()]
        held = held_by_application(pool, unreceived)
        free = len(pool.free)
        shares = {cast("Suspension", each).number: each.account.share(free) for each in pool.parked}
        logger.warning(
            "%s for room in the pool, and was not served for %.0f s%s: of %d messages in the pool "
            "or on reserves the application holds %d, %d are in inboxes or have come in part, and "
            "%d are to be sent; %d permits are free. %s. The application holds: %s",
            _channels(now.waiting + now.over_share),
            seconds,
            f" ({now.over_share} of them over their share)" if now.over_share else "",
            now.application + now.inbox + now.outgoing,
            now.application,
            now.inbox,
            now.outgoing,
            now.pool_free,
            _cures(self._gate.limits, held.values(), now),
            in_words(held, shares, self._gate.owner_loop.time()) or "none",
        )

    def _forget(self, group: ChannelGroup) -> None:
        self._groups.pop(group, None)

    def _exhausted(self, reader: Reader) -> bool:
        number = cast("Suspension", reader).number
        groups = [group for group in self._groups if number in group._members]
        return any(group._posting.pool_exhausted(number) for group in groups)


def _cures(limits: Limits, held: Iterable[Held], now: EngineStatistics) -> str:
    """What helps, the cheapest first."""
    cures = ["Release messages sooner"]
    if now.inbox:
        cures.append("receive those in the inboxes")
    if any(channel.parts for channel in held):
        cures.append(
            "receive the parts of exchanges or leave them, as 'async with channel.stream(...) as "
            "exchange' does at its end"
        )
    if now.over_share:
        cures.append(f"give the engine a larger channel_share (it is {limits.channel_share:g})")
    cures.append(f"give the engine more pool_messages (it has {limits.pool_messages})")
    return ", or ".join(cures)


def _leave_to_parent(engine: Engine) -> None:
    """In a forked child: refuse what is asked of an engine, and let go of its connections."""
    engine._gate.owner_loop.in_parent = True
    leave_to_parent(list(engine._groups))


_entered = forks.inherited(_leave_to_parent)


def _channels(count: int) -> str:
    return "1 channel waits" if count == 1 else f"{count} channels wait"

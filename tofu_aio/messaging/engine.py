"""The engine: one pool, and any number of channel groups that share it."""

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
from ..transport.releasing import all_released
from ..transport.socket_module import socket_module
from .connection.suspension import Suspension
from .flow_control.read_gate import ReadGate
from .flow_control.stall_report import Held, held_by_application, in_words
from .flow_control.usage import PoolUsage
from .forked_child import leave_to_parent
from .group import ChannelGroup
from .limits import POOL_MESSAGES, EngineOptions, Limits, OtherLimits
from .members import Numbers
from .statistics import EngineStatistics
from .threads.owner_loop import NOT_YOURS

logger = logging.getLogger("tofu_aio.pool")


class Engine:
    """Owns the bounded pool and the groups of channels that share it.

    An async context manager. It belongs to the event loop in which it is entered. Leaving it
    closes all its channels with Byes, in bounded time. After that, or once its loop is closed, it
    may be entered again and starts with nothing. ``get`` and ``put`` may be called from any
    thread. It belongs to the process in which it is entered: a forked child has none of its
    parent's connections, and needs an engine of its own.

    Args:
        pool_messages: how many received messages may be alive at once, over all channels.
        limits: the other limits, by name: ``pool_bytes``, ``channel_share`` and so on.
            ``EngineOptions`` describes each.

    Raises:
        TypeError, ValueError: a limit has the wrong type or is out of range. The message names it.
    """

    def __init__(self, pool_messages: int = POOL_MESSAGES, **limits: Unpack[OtherLimits]) -> None:
        checked_names("Engine", limits, EngineOptions.__optional_keys__)
        self._open = False
        self._begin_anew(Limits(pool_messages, **limits))

    def _begin_anew(self, limits: Limits) -> None:
        """Start with nothing, and share nothing with an earlier loop."""
        self._gate = ReadGate(limits, self._report_exhausted, self._log_stall)
        self._numbers = Numbers()
        self._groups: dict[ChannelGroup, None] = {}  # in order, so that closing is repeatable

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
                "the engine is entered already: use the one that 'async with' returned, or make "
                "another Engine"
            )
        if owner_loop.thread and not owner_loop.is_here():
            left = bool(self._groups)
            self._begin_anew(self._gate.limits)
            if left:
                gc.collect()  # otherwise their sockets, and so their addresses, stay in use
        self._gate.open()
        self._open = True
        if socket_module() is socket:  # a simulated world's sockets have no real descriptors
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
            ShutdownStarted: the engine is not entered yet, is closed, or belongs to the parent
                process.
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
        """Return a new, empty message for sending. May be called from any thread.

        With POOL_ONLY the message counts as one of the ``pool_messages`` that may be alive at
        once: it holds a permit until it is sent, released, put back or garbage-collected. So a
        program can bound the messages it makes together with those it receives.

        Args:
            allocation: ALWAYS for a message without a permit, POOL_ONLY for one that holds one.
            op_code: of the message.

        Returns:
            The message. With POOL_ONLY, None while no permit is free or channels wait for one.
        """
        message = Message(op_code)
        if allocation is Allocation.POOL_ONLY:
            if not self._gate.pool.acquire():
                return None
            message._permit = self._gate.pool
        return message

    def put(self, message: Message | None) -> None:
        """Give a message's permit back, as ``message.release()`` does. Callable from any thread.

        Anything that ``get`` has returned may be put back. None, or a message that was sent or put
        back before, is not an error.
        """
        if message is not None:
            message.release()

    async def aclose(self) -> None:
        """Close all groups concurrently, in bounded time. May be called again.

        In a forked child this does nothing: the connections belong to the parent.
        """
        if self._gate.owner_loop.in_parent:
            return
        self._open = False
        try:
            async with asyncio.TaskGroup() as closing:
                for group in list(self._groups):
                    closing.create_task(group.aclose())
            self._end()
        finally:
            await all_released()

    def _abort(self) -> None:
        """Reset every connection, so that closing does not wait for any peer."""
        for group in list(self._groups):
            group._abort()

    def _end(self) -> None:
        """Mark the engine as closed: none of its channels is open, and none will be."""
        self._open = False
        self._gate.close()

    def statistics(self) -> EngineStatistics:
        """A snapshot of the pool and the channels. Its cost grows with the number of channels."""
        gate = self._gate
        pool = gate.pool
        free, reserves = len(pool.free), len(pool.reserves)
        own = sum((group._usage(pool) for group in self._groups), PoolUsage())
        traffic = sum(
            (group._members.traffic for group in self._groups), self._numbers.ended_traffic
        )
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
            received=traffic.received,
            sent=traffic.sent,
            received_bytes=gate.received_bytes,
            sent_bytes=traffic.sent_bytes,
        )

    def _log_stall(self, seconds: float) -> None:
        """Log which messages hold the permits that channels have waited for too long."""
        pool = self._gate.pool
        now = self.statistics()
        unreceived = [message for group in self._groups for message in group._unreceived()]
        held = held_by_application(pool, unreceived)
        free = len(pool.free)
        shares = {cast("Suspension", each).number: each.account.share(free) for each in pool.parked}
        logger.warning(
            "%s for room in the pool and got none for %.0f s%s: of %d messages in the pool or on "
            "reserves the application holds %d, %d are in inboxes or arrived in part, and %d wait "
            "to be sent; %d permits are free. %s. The application holds: %s",
            _channels(now.waiting + now.over_share),
            seconds,
            f" ({now.over_share} of them over their share)" if now.over_share else "",
            now.application + now.inbox + now.outgoing,
            now.application,
            now.inbox,
            now.outgoing,
            now.pool_free,
            _remedies(self._gate.limits, held.values(), now),
            in_words(held, shares, self._gate.owner_loop.time()) or "none",
        )

    def _forget(self, group: ChannelGroup) -> None:
        self._groups.pop(group, None)

    def _report_exhausted(self, reader: Reader) -> bool:
        """Report the exhausted pool to the group of a channel that waits; whether it has one."""
        number = cast("Suspension", reader).number
        members = self._numbers.get(number)
        return members is not None and members.report_exhausted(number)


def _remedies(limits: Limits, held: Iterable[Held], now: EngineStatistics) -> str:
    """What the application can do, the cheapest first."""
    remedies = ["Release messages sooner"]
    if now.inbox:
        remedies.append("receive those in the inboxes")
    if any(channel.parts for channel in held):
        remedies.append(
            "receive the parts of exchanges or leave them, as 'async with channel.stream(...) as "
            "exchange' does at its end"
        )
    if now.over_share:
        remedies.append(f"give the engine a larger channel_share (it is {limits.channel_share:g})")
    remedies.append(f"give the engine more pool_messages (it has {limits.pool_messages})")
    return ", or ".join(remedies)


def _leave_to_parent(engine: Engine) -> None:
    """In a forked child: make the engine refuse all calls, and let go of its connections."""
    engine._gate.owner_loop.in_parent = True
    leave_to_parent(list(engine._groups))


_entered = forks.inherited(_leave_to_parent)


def _channels(count: int) -> str:
    return "1 channel waits" if count == 1 else f"{count} channels wait"

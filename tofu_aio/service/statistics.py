"""What a service tells of itself: the result of the built-in handler ``tofu.statistics``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from ..messaging.channel import Channel
from ..messaging.statistics import EngineStatistics
from .counts import CallCounts, ServiceCounts
from .handlers import Handler

MAX_CALLERS: Final = 100
"""Channels that are told of one by one. The first ones are: those that have been open longest."""


@dataclass(frozen=True, slots=True)
class HandlerStatistics:
    """The calls of one name.

    Attributes:
        running: calls that are running now.
        ended: those that have ended, by code; ``ok`` is the code of success.
    """

    running: int
    ended: dict[str, CallCounts]


@dataclass(frozen=True, slots=True)
class CallerStatistics:
    """A channel whose calls a service runs.

    Attributes:
        number: of the channel.
        peer: the caller's address; on a Unix socket its process; "" if neither is known.
        running: calls that are running now.
        received: messages that have arrived.
        sent: messages accepted for sending.
        queued_bytes: bytes that wait to be sent.
        suspended: whether it waits for permits of the pool, so that it is not read.
    """

    number: int
    peer: str
    running: int
    received: int
    sent: int
    queued_bytes: int
    suspended: bool


@dataclass(frozen=True, slots=True)
class Turns:
    """What the loop has done, if it is the reactor.

    Attributes:
        turns: how many times it has looked for events and run the callbacks that were due.
        running: seconds spent in callbacks.
        waiting: seconds spent waiting, or finding out what is due.
    """

    turns: int
    running: float
    waiting: float


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """A service at one moment.

    Attributes:
        seconds: since the service was made.
        draining: whether it is shutting down.
        queued: seconds that all calls together have waited for their turn.
        refusals: calls that did not begin, by code.
        handlers: the calls by name.
        callers: the channels, the first ``MAX_CALLERS`` of them.
        channels: how many channels there are.
        engine: see ``Service.engine``; None if that is not known.
        loop: None if it is not the reactor.
    """

    seconds: float
    draining: bool
    queued: float
    refusals: dict[str, int]
    handlers: dict[str, HandlerStatistics]
    callers: list[CallerStatistics]
    channels: int
    engine: EngineStatistics | None
    loop: Turns | None


def handlers_of(
    handlers: Mapping[str, Handler], counts: ServiceCounts
) -> dict[str, HandlerStatistics]:
    """The calls of each handler, and of names whose handlers exist no more."""
    ended: dict[str, dict[str, CallCounts]] = {name: {} for name in handlers}
    for (name, code), counted in counts.ended_calls.items():
        ended.setdefault(name, {})[code] = counted
    return {
        name: HandlerStatistics(handlers[name].running if name in handlers else 0, by_code)
        for name, by_code in ended.items()
    }


def caller_of(channel: Channel, running: int) -> CallerStatistics:
    """A channel, and how many of its calls are running."""
    told, peer = channel.statistics(), channel.peer
    where = "" if peer.address is None else str(peer.address)
    if not where and peer.credentials is not None:
        where = f"process {peer.credentials.pid} of user {peer.credentials.uid}"
    return CallerStatistics(
        number=channel.number,
        peer=where,
        running=running,
        received=told.received,
        sent=told.sent,
        queued_bytes=told.queued_bytes,
        suspended=told.suspended,
    )


class _LoopStatistics(Protocol):
    @property
    def turns(self) -> int: ...

    @property
    def running(self) -> float: ...

    @property
    def waiting(self) -> float: ...


@runtime_checkable
class _Reactor(Protocol):
    def statistics(self) -> _LoopStatistics: ...


def turns() -> Turns | None:
    """What the running loop has done; None if it does not tell."""
    loop: object = asyncio.get_running_loop()
    if not isinstance(loop, _Reactor):
        return None
    told = loop.statistics()
    return Turns(told.turns, told.running, told.waiting)

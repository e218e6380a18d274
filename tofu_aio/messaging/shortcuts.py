"""The simple cases: one channel, or one service, that has an engine of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Unpack

import anyio
from anyio.abc import TaskStatus

from ..protocol.address import Address
from .accepting.decision import Decide
from .channel import Channel
from .engine import Engine
from .group import ChannelGroup
from .opening import Connecting, opens
from .options import (
    ClientOptions,
    ConnectOptions,
    ListenOptions,
    ReconnectingClientOptions,
    ReconnectOptions,
    ServerOptions,
    split,
)
from .reconnecting import Reconnecting


@opens(Connecting)
async def connect(address: str | Address, **options: Unpack[ClientOptions]) -> Channel:
    """A channel to a listener, with an engine of its own.

    ``async with tofu.connect(address) as channel:`` closes the channel at the end, with a Bye.
    After ``channel = await tofu.connect(address)``, close it with ``await channel.aclose()`` or
    ``async with channel:``. The engine ends with the channel, whichever side closes it, so nothing
    else has to be closed.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        options: those of ``ChannelGroup.connect`` and of ``Engine``: see ``ClientOptions``.

    Returns:
        Connecting: to be awaited or entered, once. Nothing is done or raised before that.

    Raises:
        TofuError, TypeError, ValueError: as ``ChannelGroup.connect`` and ``Engine``.
    """
    limits, rest = split("connect", options, ConnectOptions)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(**limits))
        channel = await engine.create_group().connect(address, **rest)
        stack.pop_all()
    channel._connection.closing.done.add_done_callback(lambda _: engine._end())
    return channel


def reconnecting(
    address: str | Address,
    *others: str | Address,
    **options: Unpack[ReconnectingClientOptions],
) -> Reconnecting:
    """Channels to a listener, one after another, with an engine of their own.

    ``async for channel in tofu.reconnecting(address): ...``; see ``ChannelGroup.reconnecting``.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        others: more addresses, in order of preference.
        options: those of ``ChannelGroup.reconnecting`` and of ``Engine``: see
            ``ReconnectingClientOptions``.

    Raises:
        TofuError, TypeError, ValueError: as ``ChannelGroup.reconnecting`` and ``Engine``.
    """
    limits, rest = split("reconnecting", options, ReconnectOptions)
    engine = Engine(**limits)

    async def start() -> ChannelGroup:
        # It need not be closed: an engine has no resources apart from its channels.
        return (await engine.__aenter__()).create_group()

    return Reconnecting(start, [address, *others], **rest)


async def serve(
    handler: Callable[[Channel], Awaitable[object]],
    address: str | Address | None = None,
    *,
    decide: Decide | None = None,
    task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED,
    **options: Unpack[ServerOptions],
) -> None:
    """Listen, and run ``handler(channel)`` for each channel, until cancelled.

    Args:
        handler: an async function that takes the channel; see ``Listener.serve``.
        address: ``tcp://host:port``, ``uds:///path`` or ``fd://3``. None with ``sock=``.
        decide: an async function that takes the channel before it is accepted, and refuses it by
            raising ``Rejected``; see ``Listener.serve``.
        task_status: of anyio. ``await task_group.start(serve, ...)`` returns the address, with the
            port that the system chose, once ``serve`` listens.
        options: those of ``ChannelGroup.listen`` and of ``Engine``: see ``ServerOptions``.

    Raises:
        TofuError, TypeError, ValueError: as ``ChannelGroup.listen`` and ``Engine``.
    """
    limits, rest = split("serve", options, ListenOptions)
    async with Engine(**limits) as engine, engine.create_group() as group:
        listener = await group.listen(address, **rest)
        task_status.started(listener.address)
        await listener.serve(handler, decide=decide)

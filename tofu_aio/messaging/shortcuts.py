"""The simple cases: one channel, or one service, with an engine of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Unpack

import anyio
from anyio.abc import TaskStatus

from ..protocol.address import Address
from ..protocol.errors import TofuError
from ..protocol.text_headers import HeadersLike
from .backoff import Backoff
from .channel import Channel
from .deciding import Decide
from .engine import Engine
from .group import ChannelGroup
from .heartbeat import HeartbeatOption
from .limits import CONNECT_TIMEOUT, HELLO_TIMEOUT, POOL_MESSAGES
from .reconnecting import ConnectOptions, Reconnecting


@asynccontextmanager
async def connect(
    address: str | Address,
    *,
    headers: HeadersLike = (),
    body: bytes = b"",
    ssl: SSLContext | None = None,
    server_hostname: str | None = None,
    keepalive: float | None = None,
    timeout: float = CONNECT_TIMEOUT,
    heartbeat: HeartbeatOption = "auto",
    pool_messages: int = POOL_MESSAGES,
) -> AsyncIterator[Channel]:
    """A channel to a listener, for an ``async with``; closed with a Bye at its end.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        headers: of the Hello.
        body: of the Hello.
        ssl: speak TLS (TCP only), with this context.
        server_hostname: whom the listener's certificate must name; by default the host.
        keepalive: seconds of silence after which the kernel asks whether the peer is there.
        timeout: seconds to connect and be accepted.
        heartbeat: seconds between signs of life, None for none; by default 20 over TCP. See
            ``ChannelGroup.connect``.
        pool_messages: how many received messages may be alive at once.

    Raises:
        As ``ChannelGroup.connect``.
    """
    async with Engine(pool_messages) as engine, engine.create_group() as group:
        channel = await group.connect(
            address,
            headers=headers,
            body=body,
            ssl=ssl,
            server_hostname=server_hostname,
            keepalive=keepalive,
            timeout=timeout,
            heartbeat=heartbeat,
        )
        async with channel:
            yield channel


def reconnecting(
    address: str | Address,
    *,
    backoff: Backoff | None = None,
    on_failure: Callable[[TofuError], object] | None = None,
    pool_messages: int = POOL_MESSAGES,
    **options: Unpack[ConnectOptions],
) -> Reconnecting:
    """Channels to a listener, one after another, with an engine of their own.

    ``async for channel in tofu.reconnecting(address): ...``; see ``ChannelGroup.reconnecting``.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        backoff: bounds for the waits between attempts.
        on_failure: called with the reason of each failed attempt.
        pool_messages: how many received messages may be alive at once.
        options: as for ``connect``, see ``ConnectOptions``.

    Raises:
        As ``ChannelGroup.reconnecting``.
    """
    engine = Engine(pool_messages)

    async def start() -> ChannelGroup:
        # Nobody needs to close it: an engine has nothing but its channels.
        return (await engine.__aenter__()).create_group()

    return Reconnecting(start, address, backoff, on_failure, **options)


async def serve(
    handler: Callable[[Channel], Awaitable[object]],
    address: str | Address,
    *,
    decide: Decide | None = None,
    ssl: SSLContext | None = None,
    keepalive: float | None = None,
    reuse_port: bool = False,
    hello_timeout: float = HELLO_TIMEOUT,
    heartbeat: HeartbeatOption = "auto",
    max_channels: int | None = None,
    pool_messages: int = POOL_MESSAGES,
    task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, and run ``handler(channel)`` for each channel, until cancelled.

    Args:
        handler: an async function that takes the channel; see ``Listener.serve``.
        address: ``tcp://host:port`` or ``uds:///path``.
        decide: an async function that takes the channel before it is accepted, and refuses it by
            raising a ``TofuError``; see ``Listener.serve``.
        ssl: speak TLS (TCP only), with this context.
        keepalive: seconds of silence after which the kernel asks whether a peer is there.
        reuse_port: let several processes listen on this TCP port.
        hello_timeout: seconds that a connection may take to introduce itself.
        heartbeat: seconds between signs of life, None for none; by default 20 over TCP. See
            ``ChannelGroup.connect``.
        max_channels: how many may be open at once; see ``ChannelGroup.listen``.
        pool_messages: how many received messages may be alive at once, over all channels.
        task_status: told the address, with the port the system chose, once it listens; that is
            what ``await task_group.start(serve, ...)`` of anyio returns.

    Raises:
        As ``ChannelGroup.listen``.
    """
    async with Engine(pool_messages) as engine, engine.create_group() as group:
        listener = await group.listen(
            address,
            ssl=ssl,
            keepalive=keepalive,
            reuse_port=reuse_port,
            hello_timeout=hello_timeout,
            heartbeat=heartbeat,
            max_channels=max_channels,
        )
        task_status.started(listener.address)
        await listener.serve(handler, decide=decide)

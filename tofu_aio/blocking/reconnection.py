"""Successive channels to the same listener, for blocking programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from inspect import isawaitable
from typing import Final, TypeVar

from ..messaging import reconnecting as messaging
from ..protocol.errors import ShutdownStarted
from ..worker_threads import Threads
from .channel import Channel
from .loop_thread import LoopThread
from .serving import MAX_THREADS

T = TypeVar("T")

_threads: Final = Threads("tofu_aio reconnecting", MAX_THREADS)


def successive_channels(
    thread: LoopThread, reconnecting: messaging.Reconnecting
) -> Generator[Channel, None, None]:
    """Yield a new channel in each iteration. Closing the generator closes the last channel."""

    async def connect() -> Channel:
        return Channel(thread, await reconnecting.__anext__())

    try:
        while True:
            try:
                yield thread.run(connect, undo=abort_channel)
            except (StopAsyncIteration, ShutdownStarted):
                return
    finally:
        thread.run_closing(reconnecting.aclose)


async def abort_channel(channel: Channel) -> None:
    """Undo connecting, for a thread that was interrupted and never got the channel."""
    channel._channel.abort()


def in_a_thread(function: Callable[[], T | Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Make an async function that calls a function in a thread, so that it cannot block the loop.

    If the function is async, only its body runs in the loop.
    """

    async def call() -> T:
        value = await _threads.run(function)
        return await value if isawaitable(value) else value

    return call

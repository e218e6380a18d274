"""One channel after another to the same listener, waited for."""

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

_makers: Final = Threads("tofu_aio reconnecting", MAX_THREADS)


def turns(
    thread: LoopThread, reconnecting: messaging.Reconnecting
) -> Generator[Channel, None, None]:
    """A fresh channel in each turn; the last one is closed when the generator is."""

    async def turn() -> Channel:
        return Channel(thread, await reconnecting.__anext__())

    try:
        while True:
            try:
                yield thread.ask(turn, unheard=aborted)
            except (StopAsyncIteration, ShutdownStarted):
                return
    finally:
        thread.leave(reconnecting.aclose)


async def aborted(channel: Channel) -> None:
    """What becomes of a channel that nobody has."""
    channel._channel.abort()


def in_a_thread(make: Callable[[], T | Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Have a function called where it may block: the loop has other channels to look after."""

    async def made() -> T:
        value = await _makers.run(make)
        return await value if isawaitable(value) else value

    return made

"""A thread for each channel."""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

from ..checks import checked_count, checked_function
from ..messaging.accepting.decision import refuse
from ..messaging.accepting.eviction import evict_silent
from ..messaging.accepting.handler_errors import handler_failed, refusal
from ..messaging.rare_warnings import RareWarnings
from ..protocol.errors import ChannelClosed, ShutdownStarted
from ..protocol.lifecycle import State
from .channel import Channel
from .waiting import next_of, start

if TYPE_CHECKING:
    from .listener import Listener

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Channel], object]

MAX_THREADS: Final = 256
"""Channels that are handled at once, unless another number is given: each takes a thread."""


def check(handler: Handler, decide: Handler | None, max_threads: int) -> None:
    """Refuse what could serve nobody.

    Raises:
        TypeError: a function is none, or one for asyncio; or the number is no whole one.
        ValueError: it is less than 1.
    """
    functions = {"handler": handler} if decide is None else {"handler": handler, "decide": decide}
    for name, function in functions.items():
        checked_function(name, function)
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{name} is {function!r}, an async function: give a plain one here, or serve it "
                "with tofu_aio.serve"
            )
    checked_count("max_threads", max_threads)


def serve(listener: Listener, handler: Handler, decide: Handler | None, max_threads: int) -> None:
    """Run the handler in a thread for each channel, until the listener is closed."""
    check(handler, decide, max_threads)
    thread, undecided = listener._thread, listener._heard
    places: SimpleQueue[None] = SimpleQueue()
    for _ in range(max_threads):
        places.put(None)
    heard: deque[Channel] = deque()  # who takes one out sees to it
    handling: set[threading.Thread] = set()

    async def hear() -> None:
        heard.append(undecided.popleft() if undecided else await listener._receive_hello())

    def give_back() -> None:
        with contextlib.suppress(IndexError):
            while True:
                undecided.appendleft(heard.pop())

    def handle() -> None:
        try:
            if (channel := _next(heard)) is not None:
                crowd.handled.add(channel)
                try:
                    _handle(handler, decide, channel)
                finally:
                    crowd.handled.discard(channel)
        finally:
            places.put(None)
            handling.discard(threading.current_thread())

    crowd = _Crowd(listener, max_threads)
    try:
        while True:
            next_of(places, crowd.look)
            try:
                thread.ask(hear)
            except (ChannelClosed, ShutdownStarted):
                places.put(None)
                break
            handler_thread = threading.Thread(target=handle, name=f"tofu_aio {heard[-1]!r}")
            handling.add(handler_thread)
            start(handler_thread)
        for _ in range(max_threads):
            next_of(places)
        for handler_thread in list(handling):
            handler_thread.join()
    except BaseException:
        thread.tell(give_back)
        raise


def _next(heard: deque[Channel]) -> Channel | None:
    """Who is to be handled; None if nobody is, for starting the thread was interrupted."""
    try:
        return heard.popleft()
    except IndexError:
        return None


class _Crowd:
    """The channels that have a thread, and those that wait for one.

    Args:
        listener: whose channels.
        max_threads: how many have one.

    Attributes:
        handled: those that have one.
    """

    def __init__(self, listener: Listener, max_threads: int) -> None:
        self._listener = listener
        self._max_threads = max_threads
        self._warnings = RareWarnings(logger, time.monotonic)
        self.handled: set[Channel] = set()

    def look(self) -> None:
        """All threads are in use: if channels wait, tell the log, and have silent ones give way."""
        if self._listener._listener._waiting:
            self._warnings.warn(
                "threads",
                f"{self._listener!r}: all {self._max_threads} threads are in use, and channels "
                "wait for one, not accepted: have handlers return sooner, or raise max_threads",
            )
            self._listener._thread.tell(self._make_way)

    def _make_way(self) -> None:
        """Let as many give way as wait and will not have a thread in a moment. At home."""
        connections = [channel._channel._connection for channel in list(self.handled)]
        free = self._max_threads - len(connections)
        returning = sum(connection.end is not None for connection in connections)
        wanted = self._listener._listener._waiting - free - returning
        if wanted > 0:
            evict_silent(connections, wanted)


def _handle(handler: Handler, decide: Handler | None, channel: Channel) -> None:
    try:
        if _decided(decide, channel):
            handler(channel)
    except Exception as error:
        # One bad conversation must not end the others.
        handler_failed(channel, error)
    finally:
        channel._part()


def _decided(decide: Handler | None, channel: Channel) -> bool:
    try:
        if decide is not None:
            decide(channel)
    except Exception as error:
        # In the loop, where the peer cannot leave in the meantime.
        refused = partial(refuse, channel._channel, refusal(channel, error))
        with contextlib.suppress(ShutdownStarted):
            channel._thread.call(refused)
    else:
        if channel.state is State.HELLO_HEARD:
            channel.accept()
    return channel.state is not State.CLOSED

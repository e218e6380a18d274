"""Serving each channel in a thread."""

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
from typing import Final, TypeAlias

from ..messaging import listener as messaging
from ..messaging.checks import checked_count, checked_function
from ..messaging.deciding import refuse
from ..messaging.giving_way import give_way
from ..messaging.judging import handler_failed, refusal
from ..messaging.rare_warnings import RareWarnings
from ..protocol.errors import ChannelClosed, ShutdownStarted
from ..protocol.lifecycle import State
from .channel import Channel
from .loop_thread import LoopThread
from .waiting import start_thread, wait_for_item

logger = logging.getLogger("tofu_aio.listener")

Handler: TypeAlias = Callable[[Channel], object]

MAX_THREADS: Final = 256
"""How many channels are handled at the same time by default. Each takes a thread."""


def check_options(handler: Handler, decide: Handler | None, max_threads: int) -> None:
    """Check the options of serving, before anything listens.

    Raises:
        TypeError: a function is not one, or is an async one; ``max_threads`` is not an integer.
        ValueError: ``max_threads`` is less than 1.
    """
    functions = {"handler": handler} if decide is None else {"handler": handler, "decide": decide}
    for name, function in functions.items():
        checked_function(name, function)
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{name} is {function!r}, an async function: give a function without 'async', or "
                "use tofu_aio.serve instead of tofu_aio.blocking"
            )
    checked_count("max_threads", max_threads)


def serve(
    thread: LoopThread,
    listener: messaging.Listener,
    undecided: deque[Channel],
    *,
    handler: Handler,
    decide: Handler | None,
    max_threads: int,
) -> None:
    """Run the handler in a thread for each channel, until the listener is closed.

    Args:
        thread: runs the listener's loop.
        listener: where the channels come from.
        undecided: channels that interrupted calls have received, which come first. If this call
            is interrupted, the channels that it has not handled go there.
        handler: see ``Listener.serve``.
        decide: see ``Listener.serve``.
        max_threads: see ``Listener.serve``.
    """
    check_options(handler, decide, max_threads)
    free_slots: SimpleQueue[None] = SimpleQueue()  # one for each thread that may be started
    for _ in range(max_threads):
        free_slots.put(None)
    received: deque[Channel] = deque()  # whoever removes a channel has to handle it
    handler_threads: set[threading.Thread] = set()

    async def receive_channel() -> None:
        received.append(
            undecided.popleft() if undecided else Channel(thread, await listener.receive_hello())
        )

    def return_channels() -> None:
        with contextlib.suppress(IndexError):
            while True:
                undecided.appendleft(received.pop())

    def run_handler() -> None:
        try:
            if (channel := _pop(received)) is not None:
                demand.handled.add(channel)
                try:
                    _handle(handler, decide, channel)
                finally:
                    demand.handled.discard(channel)
        finally:
            free_slots.put(None)
            handler_threads.discard(threading.current_thread())

    demand = _Demand(thread, listener, max_threads)
    try:
        while True:
            wait_for_item(free_slots, demand.check)
            try:
                thread.run(receive_channel)
            except (ChannelClosed, ShutdownStarted):
                free_slots.put(None)
                break
            handler_thread = threading.Thread(target=run_handler, name=f"tofu_aio {received[-1]!r}")
            handler_threads.add(handler_thread)
            start_thread(handler_thread)
        for _ in range(max_threads):
            wait_for_item(free_slots)
        for handler_thread in list(handler_threads):
            handler_thread.join()
    except BaseException:
        thread.call_soon(return_channels)
        raise


def _pop(received: deque[Channel]) -> Channel | None:
    """The channel to handle; None if starting this thread was interrupted and it was returned."""
    try:
        return received.popleft()
    except IndexError:
        return None


class _Demand:
    """Compares the channels that wait for a handler thread with the threads that are in use.

    Args:
        thread: runs the listener's loop.
        listener: where the channels wait.
        max_threads: how many handler threads there may be.

    Attributes:
        handled: the channels that have a thread.
    """

    def __init__(self, thread: LoopThread, listener: messaging.Listener, max_threads: int) -> None:
        self._thread = thread
        self._listener = listener
        self._max_threads = max_threads
        self._warnings = RareWarnings(logger, time.monotonic)
        self.handled: set[Channel] = set()

    def check(self) -> None:
        """Called while all threads are in use. If channels wait, warn and close idle channels."""
        if self._listener._waiting:
            self._warnings.warn(
                "threads",
                f"{self._listener!r}: all {self._max_threads} handler threads are in use, and new "
                "channels wait to be accepted: make handlers return sooner, or raise max_threads",
            )
            self._thread.call_soon(self._close_idle_channels)

    def _close_idle_channels(self) -> None:
        """Close one idle channel for each waiting one that gets no thread soon. In the loop."""
        connections = [channel._channel._connection for channel in list(self.handled)]
        free = self._max_threads - len(connections)
        returning = sum(connection.end is not None for connection in connections)
        wanted = self._listener._waiting - free - returning
        if wanted > 0:
            give_way(connections, wanted)


def _handle(handler: Handler, decide: Handler | None, channel: Channel) -> None:
    try:
        if _is_accepted(decide, channel):
            handler(channel)
    except Exception as error:
        # An error in one handler must not end the others.
        handler_failed(channel, error)
    finally:
        channel._close_after_handler()


def _is_accepted(decide: Handler | None, channel: Channel) -> bool:
    try:
        if decide is not None:
            decide(channel)
    except Exception as error:
        # In the loop, so that the channel's state cannot change between the check and the answer.
        refuse_channel = partial(refuse, channel._channel, refusal(channel, error))
        with contextlib.suppress(ShutdownStarted):
            channel._thread.call(refuse_channel)
    else:
        if channel.state is State.HELLO_HEARD:
            channel.accept()
    return channel.state is not State.CLOSED

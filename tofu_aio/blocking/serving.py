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

from ..checks import checked_count, checked_function
from ..messaging import listener as messaging
from ..messaging.accepting.decision import refuse
from ..messaging.accepting.eviction import evict_silent
from ..messaging.accepting.handler_errors import handler_failed, refusal
from ..protocol.errors import ChannelClosed, ShutdownStarted
from ..protocol.lifecycle import State
from ..rare_warnings import RareWarnings
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


class HandlerThreads:
    """Handles each channel of a listener in a thread of its own.

    Args:
        thread: runs the listener's loop.
        listener: where the channels come from.
        undecided: channels that interrupted calls have received, which come first. If serving is
            interrupted, the channels that it has not handled go there.
        handler: see ``Listener.serve``.
        decide: see ``Listener.serve``.
        max_threads: see ``Listener.serve``.
    """

    def __init__(
        self,
        thread: LoopThread,
        listener: messaging.Listener,
        undecided: deque[Channel],
        *,
        handler: Handler,
        decide: Handler | None,
        max_threads: int,
    ) -> None:
        check_options(handler, decide, max_threads)
        self._thread = thread
        self._listener = listener
        self._undecided = undecided
        self._handler = handler
        self._decide = decide
        self._max_threads = max_threads
        self._received: deque[Channel] = deque()  # whoever removes a channel has to handle it
        self._handled: set[Channel] = set()  # those that have a thread
        self._running: set[threading.Thread] = set()
        self._free_slots: SimpleQueue[None] = SimpleQueue()  # one for each thread that may start
        for _ in range(max_threads):
            self._free_slots.put(None)
        self._warnings = RareWarnings(logger, time.monotonic)

    def serve(self) -> None:
        """Handle channels until the listener is closed, then wait for the handlers."""
        try:
            while True:
                wait_for_item(self._free_slots, self._check_demand)
                try:
                    self._thread.run(self._receive_channel)
                except (ChannelClosed, ShutdownStarted):
                    self._free_slots.put(None)
                    break
                name = f"tofu_aio {self._received[-1]!r}"
                handler_thread = threading.Thread(target=self._run_handler, name=name)
                self._running.add(handler_thread)
                start_thread(handler_thread)
            for _ in range(self._max_threads):
                wait_for_item(self._free_slots)
            for handler_thread in list(self._running):
                handler_thread.join()
        except BaseException:
            self._thread.call_soon(self._return_channels)
            raise

    async def _receive_channel(self) -> None:
        if self._undecided:
            channel = self._undecided.popleft()
        else:
            channel = Channel(self._thread, await self._listener.receive_hello())
        if channel.state is not State.CLOSED:  # those are forgotten when they end
            self._listener._served.add(channel._channel)
        self._received.append(channel)

    def _return_channels(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                channel = self._received.pop()
                self._listener._served.discard(channel._channel)
                self._undecided.appendleft(channel)

    # --- in a handler's thread ------------------------------------------------------------

    def _run_handler(self) -> None:
        try:
            if (channel := self._pop_received()) is not None:
                self._handled.add(channel)
                try:
                    self._handle(channel)
                finally:
                    self._handled.discard(channel)
        finally:
            self._free_slots.put(None)
            self._running.discard(threading.current_thread())

    def _pop_received(self) -> Channel | None:
        """The channel to handle; None if an interrupted `serve` has returned it."""
        try:
            return self._received.popleft()
        except IndexError:
            return None

    def _handle(self, channel: Channel) -> None:
        try:
            if self._is_accepted(channel):
                self._handler(channel)
        except Exception as error:
            # An error in one handler must not end the others.
            handler_failed(channel, error)
        finally:
            channel._close_after_handler()

    def _is_accepted(self, channel: Channel) -> bool:
        try:
            if self._decide is not None:
                self._decide(channel)
        except Exception as error:
            # In the loop, so that the channel's state cannot change between check and answer.
            refuse_channel = partial(refuse, channel._channel, refusal(channel, error))
            with contextlib.suppress(ShutdownStarted):
                channel._thread.call(refuse_channel)
        else:
            if channel.state is State.HELLO_HEARD:
                channel.accept()
        return channel.state is not State.CLOSED

    # --- while all threads are in use -----------------------------------------------------

    def _check_demand(self) -> None:
        """If channels wait for a thread, warn, and close channels that are idle."""
        if self._listener._waiting:
            self._warnings.warn(
                "threads",
                f"{self._listener!r}: all {self._max_threads} handler threads are in use, and new "
                "channels wait to be accepted: make handlers return sooner, or raise max_threads",
            )
            self._thread.call_soon(self._close_idle_channels)

    def _close_idle_channels(self) -> None:
        """Close one idle channel for each waiting one that gets no thread soon. In the loop."""
        connections = [channel._channel._connection for channel in list(self._handled)]
        free = self._max_threads - len(connections)
        returning = sum(connection.end is not None for connection in connections)
        wanted = self._listener._waiting - free - returning
        if wanted > 0:
            evict_silent(connections, wanted)

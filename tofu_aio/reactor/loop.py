"""The event loop: asyncio's selector loop on the reactor's selector."""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import heapq
import math
from asyncio import base_events
from collections.abc import Callable
from contextvars import Context
from inspect import signature
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from time import monotonic
from types import MethodType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVarTuple, Unpack, cast

from tofu_aio.reactor.accepting import AcceptingLoop
from tofu_aio.reactor.selector import ReactorSelector
from tofu_aio.reactor.statistics import LoopCounters, LoopStatistics, name_of
from tofu_aio.reactor.transports import TransportLoop
from tofu_aio.reactor.wake_up import WakingLoop

if TYPE_CHECKING:
    from tofu_aio.reactor.selector_loop import ReadyHandle

Args = TypeVarTuple("Args")
_CALL_SOON: Final = {"self", "callback", "args", "context"}
Pair: TypeAlias = tuple[asyncio.Handle | None, asyncio.Handle | None]

# Seconds in a day: long enough to cost nothing, short enough for every clock and poller.
_LONGEST_SLEEP = 86_400

# Cancelled timers stay in the heap until they are due, unless there are more timers than this and
# more than half of them are cancelled.
_FEW_TIMERS = 100


class Loop(WakingLoop, AcceptingLoop, TransportLoop):
    """An asyncio event loop that tells the system once per turn which descriptors it watches.

    Everything that `asyncio.SelectorEventLoop` documents holds. In addition:

    * A transport that pauses and resumes reading between two turns costs no system call.
    * Many calls of `call_soon_threadsafe` between two turns cost one wake-up.
    * The loop survives if its self-pipe is closed, which makes asyncio's loop use all of a
      processor.
    * A server that cannot accept, for example because there are no free descriptors, tries again
      once a second until it can or is closed, and logs one message for each attempt.
    * `statistics` returns what the loop has done.

    Args:
        selector: The selector to use; None makes one.

    Raises:
        TypeError: `selector` is not a `ReactorSelector`.
        OSError: There are no free descriptors (EMFILE).
    """

    # For the finalizer, in case asyncio's __init__ fails before it sets the attribute.
    _closed = True

    def __init__(self, selector: ReactorSelector | None = None) -> None:
        # Only two attributes: CPython 3.11 to 3.13 reads all attributes of an object more slowly if
        # there are more than 30, and asyncio's loop has 26. The selector is kept in addition to
        # asyncio's own reference to it, which a closed loop drops.
        if not isinstance(selector, ReactorSelector | None):  # not every caller uses mypy
            raise TypeError(
                f"the selector of the loop must be a ReactorSelector, not {type(selector).__name__}"
                ": leave the argument out to get one"
            )
        self._reactor = ReactorSelector() if selector is None else selector
        self._counters = LoopCounters()
        super().__init__(self._reactor)

    def statistics(self) -> LoopStatistics:
        """Return what the loop has done so far, also after it was closed."""
        return self._counters.snapshot(self._reactor.statistics())

    if signature(asyncio.SelectorEventLoop.call_soon).parameters.keys() <= _CALL_SOON:
        # A newer Python with more parameters keeps its own method. Checking for more in each call
        # would cost 5 %.

        def call_soon(
            self,
            callback: Callable[[Unpack[Args]], object],
            *args: *Args,
            context: Context | None = None,
        ) -> asyncio.Handle:
            """Run a callback in the next turn. Every step of every task is scheduled here."""
            if self._debug or self._closed:
                watched = super().call_soon(callback, *args, context=context)
                # Debug mode shows where the handle was made: in the caller's line, not in this one.
                if made := cast("ReadyHandle", watched)._source_traceback:
                    del made[-1]
                return watched
            handle = asyncio.Handle(callback, args, self, context)
            self._ready.append(handle)  # type: ignore[arg-type]  # typeshed leaves out _callback
            return handle

    # While a transport is open, it alone decides about its descriptor: no other code may add or
    # remove it, and `close` and `abort` remove it before the socket is closed. So the system can be
    # told in the next turn that reading was paused or resumed, and need not be told if that was
    # undone by then. Every other descriptor may be closed, and its number reused, as soon as the
    # method returns, so it must be removed at once. And if the system refuses such a descriptor,
    # the method that adds it must raise.
    #
    # Arguments of newer Pythons that are unknown here are left to asyncio's own methods, which use
    # the same selector and tell the system at once.

    def _add_reader(
        self,
        fd: int,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
        **unknown: object,
    ) -> asyncio.Handle:
        self._check_closed()
        key = self._key_to_change(fd)
        if unknown:
            return super()._add_reader(fd, callback, *args, context=context, **unknown)
        handle = asyncio.Handle(callback, args, self, context)
        if key is None:
            self._begin_watching(fd, EVENT_READ, handle, (handle, None))
        else:
            reader, writer = key.data
            self._watch_also(key, EVENT_READ, reader, (handle, writer))
        return handle

    def _add_writer(
        self,
        fd: int,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
        **unknown: object,
    ) -> asyncio.Handle:
        self._check_closed()
        key = self._key_to_change(fd)
        if unknown:
            return super()._add_writer(fd, callback, *args, context=context, **unknown)
        handle = asyncio.Handle(callback, args, self, context)
        if key is None:
            self._begin_watching(fd, EVENT_WRITE, handle, (None, handle))
        else:
            reader, writer = key.data
            self._watch_also(key, EVENT_WRITE, writer, (reader, handle))
        return handle

    def _remove_reader(self, fd: int, /) -> bool:
        key = None if self.is_closed() else self._key_to_change(fd)
        if key is None:
            return False
        reader, writer = key.data
        self._stop_watching(key, EVENT_READ, reader, (None, writer))
        return reader is not None

    def _remove_writer(self, fd: int, /) -> bool:
        key = None if self.is_closed() else self._key_to_change(fd)
        if key is None:
            return False
        reader, writer = key.data
        self._stop_watching(key, EVENT_WRITE, writer, (reader, None))
        return writer is not None

    def _key_to_change(self, fd: int) -> SelectorKey | None:
        """Return the key of a descriptor, after settling it if its keeper does not keep it open."""
        # A file object instead of a number belongs to no transport, and may not be hashable.
        if type(fd) is int and fd in self._reactor.resting:
            _, keeper = self._reactor.resting[fd]
            if self._transports.get(fd) is not keeper or keeper.is_closing():
                self._reactor.settle(fd)
        return self._reactor.get_map().get(fd)

    def _begin_watching(self, fd: int, event: int, handle: asyncio.Handle, data: Pair) -> None:
        if self._keeper(fd, handle) is None:
            self._reactor.register(fd, event, data)
        else:
            self._reactor.enlist(fd, event, data)

    def _watch_also(
        self, key: SelectorKey, event: int, replaced: asyncio.Handle | None, data: Pair
    ) -> None:
        if replaced is None:
            self._reactor.modify(key.fd, key.events | event, data)
        else:
            # The replaced callback may be that of a file that was closed without removing it, and
            # whose number was reused.
            self._reactor.renew(key.fd, key.events, data)
            replaced.cancel()

    def _stop_watching(
        self, key: SelectorKey, event: int, handle: asyncio.Handle | None, data: Pair
    ) -> None:
        left = key.events & ~event
        if left:
            self._reactor.modify(key.fd, left, data)
        elif (keeper := self._keeper(key.fd, handle)) is None:
            self._reactor.unregister(key.fd)
        else:
            self._reactor.rest(key.fd, keeper)
        if handle is not None:
            handle.cancel()

    def _keeper(self, fd: int, handle: asyncio.Handle | None) -> asyncio.Transport | None:
        """Return the transport that keeps the descriptor open, if the callback is its method."""
        callback = None if handle is None else cast("ReadyHandle", handle)._callback
        if type(callback) is not MethodType:
            return None
        owner = callback.__self__
        if (
            isinstance(owner, asyncio.Transport)
            and self._transports.get(fd) is owner
            and not owner.is_closing()
        ):
            return owner
        return None

    def run_forever(self) -> None:
        """Run until `stop` is called."""
        if not self.is_running():
            self._counters.start(monotonic())
        super().run_forever()

    def _run_once(self) -> None:
        """Run one turn: wait until something is due, then run everything that is due by then."""
        ready = self._ready
        if self._scheduled:
            timeout = self._time_to_sleep()
        else:
            timeout = 0 if ready or self._stopping else None
        events = self._reactor.select(timeout)
        if events:
            self._make_events_due(events)
        del events  # Or keys that a callback unregisters would live until the end of the turn.
        if self._scheduled:
            self._make_timers_due()
        debug = self._debug
        counters = self._counters
        slowest = counters.slowest
        woke = now = monotonic()
        handle = callback = None
        try:
            # Callbacks that these schedule run in the next turn, after a look for events.
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                callback = handle._callback  # A handle drops it when it is cancelled.
                try:
                    if debug:
                        self._run_watched(handle)
                    else:
                        handle._run()
                finally:
                    before = now
                    now = monotonic()
                    if now - before > slowest:
                        slowest = counters.slowest = now - before
                        counters.slowest_name = name_of(callback)
        finally:
            counters.turns += 1
            counters.running += now - woke
            counters.turned = now
            # If a callback raises, the traceback keeps this frame alive, with its variables.
            del handle, callback

    def _make_events_due(self, ready: list[tuple[SelectorKey, int]], /) -> None:
        """Queue the callbacks of the descriptors that are ready."""
        queue = self._ready.append
        for key, events in ready:
            reader, writer = key.data
            if events & EVENT_READ and reader is not None:
                if reader._cancelled:
                    self._remove_reader(key.fd)
                else:
                    queue(reader)
            if events & EVENT_WRITE and writer is not None:
                if writer._cancelled:
                    self._remove_writer(key.fd)
                else:
                    queue(writer)

    def _time_to_sleep(self) -> float | None:
        """Return the number of seconds that `select` may wait; None for no limit."""
        scheduled = self._scheduled
        if len(scheduled) > _FEW_TIMERS and self._timer_cancelled_count > len(scheduled) / 2:
            for timer in scheduled:
                timer._scheduled = not timer._cancelled
            scheduled[:] = [timer for timer in scheduled if not timer._cancelled]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if self._ready or self._stopping:
            return 0
        if scheduled:
            return min(scheduled[0]._when - self.time(), _LONGEST_SLEEP)
        return None

    def _make_timers_due(self) -> None:
        scheduled = self._scheduled
        now = self.time()
        due = now + self._clock_resolution
        if due == now:  # The clock is so far from 0 that the sum is rounded to `now`.
            due = math.nextafter(now, math.inf)
        while scheduled and scheduled[0]._when < due:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            self._ready.append(timer)

    def _run_watched(self, handle: ReadyHandle) -> None:
        """Run a callback in debug mode: known to the exception handler, and timed."""
        self._current_handle = handle
        began = self.time()
        try:
            handle._run()
            took = self.time() - began
            if took >= self.slow_callback_duration:
                # With asyncio's text and logger, which its own tests check.
                task = getattr(handle._callback, "__self__", None)
                shown = task if isinstance(task, asyncio.Task) else handle
                base_events.logger.warning(  # type: ignore[attr-defined]
                    "Executing %r took %.3f seconds", shown, took
                )
        finally:
            self._current_handle = None
            del handle  # As at the end of `_run_once`.

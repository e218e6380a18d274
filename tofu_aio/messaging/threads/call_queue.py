"""A queue of calls that other threads submit to the owner loop of an engine."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from ...protocol.errors import TofuError, again
from ...worker_threads import RevocableCall
from .owner_loop import Call, OwnerLoop, loop_closed

CALLS_A_TURN: Final = 1024
"""How many calls of other threads one turn of the loop makes at most, so that threads that submit
calls without a pause do not keep the loop from its sockets."""

_RECHECK_DELAY: Final = 0.001
"""Seconds between the checks whether threads have submitted what they were about to submit."""


class CallQueue:
    """Calls of other threads, which the owner loop makes in order, with one wake-up for many.

    No call is lost: one that ``submit`` has accepted is made, at the latest by ``close``. After
    that, ``submit`` raises.

    There is no lock, because Ctrl-C can interrupt a thread that holds one, and the lock would stay
    locked for ever. ``submit`` appends the call in one atomic step, and checks afterwards whether
    it was too late.

    Attributes:
        submitting: a mark for each thread that has checked the state of a channel and is about to
            submit a call because of it. ``follow`` delays changes of this state until the threads
            that may have seen the old one have submitted their calls.
    """

    def __init__(self, owner_loop: OwnerLoop) -> None:
        self._owner_loop = owner_loop
        self._calls: deque[RevocableCall] = deque()
        self._runs = 0
        self._scheduled_after = -1  # the number of runs when the next one was scheduled
        self._running = False
        self._end: TofuError | None = None
        self.submitting: set[object] = set()

    @property
    def pending(self) -> bool:
        """Whether a call that this thread has submitted may not have been made yet."""
        return bool(self._calls) or self._running

    def submit(self, call: RevocableCall) -> None:
        """Have a call made in the owner loop. The call must not raise.

        Raises:
            TofuError: the queue is closed; this is the error that it was closed with.
            ShutdownStarted: the loop was closed before the engine.
        """
        try:
            if self._end is None and self._owner_loop.alive:
                self._calls.append(call)
                self._schedule_run()
            if self._end is not None:
                raise again(self._end)
            if not self._owner_loop.alive:
                raise loop_closed()
        except RuntimeError:
            if call.revoke():
                raise loop_closed() from None
        except TofuError:
            if call.revoke():
                raise
        except BaseException:
            call.revoke()
            raise

    def follow(self, call: Call) -> None:
        """Make a call now or, if calls of other threads are pending, after those.

        To be called in the owner loop.
        """
        self._follow(call, set(self.submitting))

    def close(self, error: TofuError) -> None:
        """Make all calls submitted so far. Later ones are refused with the error.

        To be called in the owner loop.
        """
        self._end = error
        self._running = True
        try:
            while self._next():
                pass
        finally:
            self._running = False

    def _follow(self, call: Call, submitting: set[object]) -> None:
        submitting &= self.submitting
        if submitting and self._end is None:
            self._owner_loop.call_later(_RECHECK_DELAY, partial(self._follow, call, submitting))
        elif self._calls:
            self._calls.append(RevocableCall(call))
            self._schedule_run()
        else:
            call()

    def _schedule_run(self) -> None:
        # This is called after a call was appended. While a scheduled run has not started, no other
        # is scheduled. The note is made after scheduling: if an interrupt comes in between, there
        # is one run too many, which does no harm.
        runs = self._runs
        if self._scheduled_after != runs:
            self._owner_loop.call_soon(self._run)
            self._scheduled_after = runs

    def _run(self) -> None:
        self._running = True
        self._runs += 1  # before the queue is read: a later ``submit`` schedules another run
        try:
            for _ in range(CALLS_A_TURN):
                if not self._next():
                    break
        finally:
            if self._calls:
                self._schedule_run()
            self._running = False

    def _next(self) -> bool:
        try:
            call = self._calls.popleft()
        except IndexError:
            return False
        call.make()
        return True

"""Calls that other threads have made in the owner loop of an engine."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from ...protocol.errors import TofuError, again
from ...worker_threads import RevocableCall
from .owner_loop import Call, OwnerLoop, loop_closed

CALLS_A_TURN: Final = 1024
"""How many calls of other threads one turn of the loop carries out: however many threads never
pause, the sockets have their turns too."""

_A_MOMENT: Final = 0.001
"""Seconds after which it is looked anew whether threads have put what they were about to put."""


class CallQueue:
    """What other threads want done at home: done in order, with one wake-up for many.

    Nothing is dropped: a call that ``submit`` took is carried out, at the latest by ``close``; one
    that comes after that is refused.

    There is no lock: Ctrl-C may interrupt a thread that holds one for ever. Who puts a call has
    done so by a single step, and looks then whether it was too late.

    Attributes:
        putting: a mark of each thread that is about to put something, on account of what it sees.
            What would change that waits, in ``follow``, until those that may have seen it before
            are through.
    """

    def __init__(self, owner_loop: OwnerLoop) -> None:
        self._owner_loop = owner_loop
        self._calls: deque[RevocableCall] = deque()
        self._runs = 0
        self._asked_for = -1  # after which of the runs another one was asked for
        self._running = False
        self._end: TofuError | None = None
        self.putting: set[object] = set()

    @property
    def pending(self) -> bool:
        """Whether something that this thread has put may still have to be done."""
        return bool(self._calls) or self._running

    def submit(self, posting: RevocableCall) -> None:
        """Have it called at home. It must not raise.

        Raises:
            TofuError: the queue was closed: with what, it says.
            ShutdownStarted: the loop was closed, and nobody has closed the engine before.
        """
        try:
            if self._end is None and self._owner_loop.alive:
                self._calls.append(posting)
                self._ask_for_run()
            if self._end is not None:
                raise again(self._end)
            if not self._owner_loop.alive:
                raise loop_closed()
        except RuntimeError:
            if posting.revoke():
                raise loop_closed() from None
        except TofuError:
            if posting.revoke():
                raise
        except BaseException:
            posting.revoke()
            raise

    def follow(self, call: Call) -> None:
        """Do it now or, where calls of other threads are still to be done, after those. At home."""
        self._follow(call, set(self.putting))

    def close(self, error: TofuError) -> None:
        """Carry out what was put so far, and refuse with the error all that comes. At home."""
        self._end = error
        self._running = True
        while self._next():
            pass
        self._running = False

    def _follow(self, call: Call, putting: set[object]) -> None:
        putting &= self.putting
        if putting and self._end is None:
            self._owner_loop.call_later(_A_MOMENT, partial(self._follow, call, putting))
        elif self._calls:
            self._calls.append(RevocableCall(call))
            self._ask_for_run()
        else:
            call()

    def _ask_for_run(self) -> None:
        # Asked for after what is to be done was put. It is asked for once while none has begun; and
        # noted after it, so that an interrupt in between costs a run too many, and no more.
        runs = self._runs
        if self._asked_for != runs:
            self._owner_loop.call_soon(self._run)
            self._asked_for = runs

    def _run(self) -> None:
        self._running = True
        self._runs += 1  # before the first is looked for: who puts one later asks anew
        try:
            for _ in range(CALLS_A_TURN):
                if not self._next():
                    break
        finally:
            if self._calls:
                self._ask_for_run()
            self._running = False

    def _next(self) -> bool:
        try:
            posting = self._calls.popleft()
        except IndexError:
            return False
        posting.make()
        return True

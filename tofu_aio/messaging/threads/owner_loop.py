"""Where an engine lives, and how other threads get something done there."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from ...protocol.errors import ShutdownStarted, TofuError, again

Call: TypeAlias = Callable[[], None]

CALLS_A_TURN: Final = 1024
"""How many calls of other threads one turn of the loop carries out: however many threads never
pause, the sockets have their turns too."""

_A_MOMENT: Final = 0.001
"""Seconds after which it is looked anew whether threads have put what they were about to put."""


NOT_YOURS: Final = (
    "the engine belongs to the process that entered it: after a fork the child needs its own"
)


class Home:
    """The loop in which an engine was entered, and its thread.

    Attributes:
        thread: its identifier; 0 before ``enter``.
        in_parent: whether this is a forked child, which has nothing to close here.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.in_parent = False

    def enter(self) -> None:
        """Live in the running loop."""
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    @property
    def alive(self) -> bool:
        """Whether there is a loop that can still be called."""
        return self._loop is not None and not self._loop.is_closed()

    def is_here(self) -> bool:
        """Whether it is the running loop. In a loop."""
        return self._loop is asyncio.get_running_loop()

    def check(self) -> None:
        """Refuse to do in another loop what belongs here. In a loop.

        Raises:
            ShutdownStarted: this one was closed, or is a parent's.
            RuntimeError: it is another one.
        """
        if self.in_parent:
            raise ShutdownStarted(NOT_YOURS)
        if not self.is_here():
            if not self.alive:
                raise _homeless()
            raise RuntimeError("the engine was entered in another event loop, and belongs to that")

    @property
    def running(self) -> bool:
        """Whether the loop runs at this moment."""
        return self._loop is not None and self._loop.is_running()

    def time(self) -> float:
        """The loop's clock, in seconds."""
        assert self._loop is not None
        return self._loop.time()

    def call_later(self, seconds: float, callback: Call) -> asyncio.TimerHandle:
        """Have it called after a while. At home."""
        assert self._loop is not None
        return self._loop.call_later(seconds, callback)

    def call_soon(self, callback: Call) -> None:
        """Have it called in the next turn. From any thread, and from finalizers.

        Raises:
            RuntimeError: the loop was closed in this very moment.
        """
        assert self._loop is not None
        if threading.get_ident() == self.thread:
            self._loop.call_soon(callback)
        else:
            self._loop.call_soon_threadsafe(callback)


class Posting:
    """A call that is made at home, unless whoever wants it takes it back before that."""

    __slots__ = ("_call", "_decided")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._decided: dict[str, str] = {}

    def make(self) -> None:
        """Make the call, unless it was taken back. At home."""
        if self._decided.setdefault("by", "home") == "home":
            self._call()

    def taken_back(self) -> bool:
        """Take it back; False if the call is made already. Repeatable."""
        return self._decided.setdefault("by", "its owner") == "its owner"


class CallQueue:
    """What other threads want done at home: done in order, with one wake-up for many.

    Nothing is dropped: a call that ``put`` took is carried out, at the latest by ``close``; one
    that comes after that is refused.

    There is no lock: Ctrl-C may interrupt a thread that holds one for ever. Who puts a call has
    done so by a single step, and looks then whether it was too late.

    Attributes:
        putting: a mark of each thread that is about to put something, on account of what it sees.
            What would change that waits, in ``follow``, until those that may have seen it before
            are through.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._calls: deque[Posting] = deque()
        self._runs = 0
        self._asked_for = -1  # after which of the runs another one was asked for
        self._running = False
        self._end: TofuError | None = None
        self.putting: set[object] = set()

    @property
    def pending(self) -> bool:
        """Whether something that this thread has put may still have to be done."""
        return bool(self._calls) or self._running

    def put(self, posting: Posting) -> None:
        """Have it called at home. It must not raise.

        Raises:
            TofuError: the queue was closed: with what, it says.
            ShutdownStarted: the loop was closed, and nobody has closed the engine before.
        """
        try:
            if self._end is None and self._home.alive:
                self._calls.append(posting)
                self._ask_for_run()
            if self._end is not None:
                raise again(self._end)
            if not self._home.alive:
                raise _homeless()
        except RuntimeError:
            if posting.taken_back():
                raise _homeless() from None
        except TofuError:
            if posting.taken_back():
                raise
        except BaseException:
            posting.taken_back()
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
            self._home.call_later(_A_MOMENT, partial(self._follow, call, putting))
        elif self._calls:
            self._calls.append(Posting(call))
            self._ask_for_run()
        else:
            call()

    def _ask_for_run(self) -> None:
        # Asked for after what is to be done was put. It is asked for once while none has begun; and
        # noted after it, so that an interrupt in between costs a run too many, and no more.
        runs = self._runs
        if self._asked_for != runs:
            self._home.call_soon(self._run)
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


def _homeless() -> TofuError:
    return ShutdownStarted("the engine's event loop was closed")

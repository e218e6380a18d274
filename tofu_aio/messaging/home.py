"""Where an engine lives, and how other threads get something done there."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from ..protocol.errors import ShutdownStarted, TofuError, again

Call: TypeAlias = Callable[[], None]

CALLS_A_TURN: Final = 1024
"""How many calls of other threads one turn of the loop carries out: however many threads never
pause, the sockets have their turns too."""


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
            ShutdownStarted: this one was closed.
            RuntimeError: it is another one.
        """
        if not self.is_here():
            if not self.alive:
                raise _homeless()
            raise RuntimeError("the engine was entered in another event loop, and belongs to that")

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


class CallQueue:
    """What other threads want done at home: done in order, with one wake-up for many.

    Nothing is dropped: a call that ``put`` took is carried out, at the latest by ``close``; one
    that comes after that is refused.

    Attributes:
        putting: held while a call is put. Who looks at something before, and holds it meanwhile
            as well, puts before anything that ``follow`` or ``close`` does. No call is made
            under it. Reentrant, for a signal handler or a finalizer may post within a post.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._calls: deque[Call] = deque()
        self._scheduled = False
        self._running = False
        self._end: TofuError | None = None
        self.putting = threading.RLock()

    @property
    def pending(self) -> bool:
        """Whether something that this thread has put may still have to be done."""
        return self._scheduled or self._running

    def put(self, call: Call) -> None:
        """Have it called at home. It must not raise.

        Raises:
            TofuError: the queue was closed: with what, it says.
            ShutdownStarted: the loop was closed, and nobody has closed the engine before.
        """
        with self.putting:
            if self._end is not None:
                raise again(self._end)
            if not self._home.alive:
                raise _homeless()
            self._calls.append(call)
            if not self._scheduled:
                self._scheduled = True
                try:
                    self._home.call_soon(self._run)
                except RuntimeError:
                    self._calls.pop()
                    raise _homeless() from None

    def follow(self, call: Call) -> None:
        """Do it now or, where calls of other threads are still to be done, after those. At home."""
        with self.putting:
            waits = bool(self._calls)
            if waits:
                self._calls.append(call)  # behind one that has been scheduled
        if not waits:
            call()

    def close(self, error: TofuError) -> None:
        """Carry out what was put so far, and refuse with the error all that comes. At home."""
        with self.putting:
            self._end = error
        self._running = True
        while self._next():
            pass
        self._running = False

    def _run(self) -> None:
        # ``_scheduled`` is raised after a call was put, and lowered before the first is looked
        # for: who puts one later than we look finds it lowered, and schedules anew. In between
        # ``_running`` keeps ``pending`` true.
        self._running = True
        self._scheduled = False
        try:
            for _ in range(CALLS_A_TURN):
                if not self._next():
                    break
        finally:
            if self._calls and not self._scheduled:
                self._scheduled = True
                self._home.call_soon(self._run)
            self._running = False

    def _next(self) -> bool:
        try:
            call = self._calls.popleft()
        except IndexError:
            return False
        call()
        return True


def _homeless() -> TofuError:
    return ShutdownStarted("the engine's event loop was closed")

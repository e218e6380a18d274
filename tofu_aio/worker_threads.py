"""Functions that may block, in threads of our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

from .protocol.atomic import withdraw
from .protocol.errors import AllocationFailed

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class RevocableCall:
    """A call that is made at home, unless whoever wants it takes it back before that."""

    __slots__ = ("_call", "_decided")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._decided: dict[str, str] = {}

    def make(self) -> None:
        """Make the call, unless it was taken back. At home."""
        if self._decided.setdefault("by", "home") == "home":
            self._call()

    def revoke(self) -> bool:
        """Take it back; False if the call is made already. Repeatable."""
        return self._decided.setdefault("by", "its owner") == "its owner"


class Threads:
    """Threads that begin when they are needed, and end when there is nothing to do.

    Not the loop's executor: that is the application's, which may keep it busy or shut it down. And
    ``concurrent.futures`` takes no more work once the main thread has ended, although other threads
    may go on for hours. These are daemons: nobody who leaves waits for a name server.

    Args:
        name: of the threads, for debuggers.
        most: how many there may be at once, over all loops of the process.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)  # it has none of the threads

    def _begin(self) -> None:
        self._waiting: deque[_Call[object]] = deque()
        self._taken: dict[int, object] = {}  # each place that is taken, and the claim it has

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function in a thread, and return what it does, or raise that.

        Cancelled, it does not wait for the function, which goes on to its end all the same; one
        that has not begun never does.

        Raises:
            AllocationFailed: the system has no room for one more thread.
        """
        call = _Call(function)
        self._waiting.append(call)
        try:
            self._start()
            await call.done
        finally:
            call.wanted = False
        if call.error is None:
            return call.result
        try:
            raise call.error
        finally:
            del call  # which its error's traceback would keep, and it that

    # Without a lock, which a signal handler or a finalizer could find taken by its own thread. Who
    # has something to do puts it in the queue first, and then looks for a place; a thread that
    # ends gives its place back first, and then looks at the queue. So one of the two sees it.

    def _start(self) -> None:
        """Begin a thread, unless there are as many as may be: those come to what waits."""
        claim = object()
        work = RevocableCall(lambda: self._work(claim))
        try:
            if self._take_place(claim):
                threading.Thread(target=work.make, name=self._name, daemon=True).start()
        except BaseException as error:
            # Interrupted, say. The place is the thread's if there is one after all.
            if work.revoke():
                withdraw(self._taken, claim)
            if isinstance(error, RuntimeError):
                raise AllocationFailed(f"no thread can be started ({error})") from error
            raise

    def _work(self, claim: object) -> None:
        while True:
            try:
                call = self._waiting.popleft()
            except IndexError:
                withdraw(self._taken, claim)
                if not self._waiting or not self._take_place(claim):
                    return
            else:
                call.carry_out()

    def _take_place(self, claim: object) -> bool:
        """Put the claim in a free place, by one step, so that it can always be found there."""
        taken = self._taken
        return any(taken.setdefault(place, claim) is claim for place in range(self._most))


class _Call(Generic[T_co]):
    """A function that a coroutine waits for.

    Attributes:
        wanted: whether it still does.
        done: when the function has returned, or raised.
        result: what it has returned.
        error: what it has raised.
    """

    def __init__(self, function: Callable[[], T_co]) -> None:
        self._function = function
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self.wanted = True
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.result: T_co
        self.error: BaseException | None = None

    def carry_out(self) -> None:
        """In a thread."""
        if not self.wanted:
            return
        try:
            self.result = self._context.run(self._function)
        except BaseException as error:  # whatever it is, it is the coroutine's
            self.error = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

"""Running functions that block in daemon threads."""

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
    """A call to be made in another thread, which can be revoked until it is made."""

    __slots__ = ("_call", "_decided")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._decided: dict[str, str] = {}

    def make(self) -> None:
        """Make the call, unless it was revoked. For the thread that the call is meant for."""
        if self._decided.setdefault("by", "make") == "make":
            self._call()

    def revoke(self) -> bool:
        """Revoke the call; return False if it was made already. May be called again."""
        return self._decided.setdefault("by", "revoke") == "revoke"


class Threads:
    """Threads that start when they are needed, and end when there is nothing to do.

    The loop's executor is not used, because it is the application's, which may keep it busy or shut
    it down. ``concurrent.futures`` accepts no more work once the main thread has ended, although
    other threads may go on for hours. These threads are daemons, so that the exit of a program does
    not wait for a name server.

    Args:
        name: of the threads, for debuggers.
        most: how many threads there may be at the same time, for all loops of the process together.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)  # the child does not have the threads

    def _reset(self) -> None:
        self._waiting: deque[_Call[object]] = deque()
        self._taken: dict[int, object] = {}  # the slots in use, and the claim of each

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function in a thread, and return its result or raise its exception.

        If this is cancelled, it does not wait for the function. A function that is running goes on
        to its end; one that has not started is not called.

        Raises:
            AllocationFailed: the system cannot start another thread.
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
            del call  # breaks a reference cycle: the error's traceback refers to this frame

    # There is no lock, because a signal handler or a finalizer could find that its own thread holds
    # it. ``run`` puts a call in the queue first, and then looks for a free slot. A thread that ends
    # frees its slot first, and then looks at the queue. So one of the two finds the other.

    def _start(self) -> None:
        """Start a thread, unless all slots are in use: the running threads will find the call."""
        claim = object()
        work = RevocableCall(lambda: self._work(claim))
        try:
            if self._take_slot(claim):
                threading.Thread(target=work.make, name=self._name, daemon=True).start()
        except BaseException as error:
            # For example an interrupt. If the thread has started after all, it keeps the slot.
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
                if not self._waiting or not self._take_slot(claim):
                    return
            else:
                call.carry_out()

    def _take_slot(self, claim: object) -> bool:
        """Put the claim in a free slot, in one atomic step, so that it can always be withdrawn."""
        taken = self._taken
        return any(taken.setdefault(slot, claim) is claim for slot in range(self._most))


class _Call(Generic[T_co]):
    """A function that a coroutine waits for.

    Attributes:
        wanted: whether the coroutine still waits.
        done: completed when the function has returned or raised.
        result: what the function has returned.
        error: what the function has raised.
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
        """Call the function. To be called in a worker thread."""
        if not self.wanted:
            return
        try:
            self.result = self._context.run(self._function)
        except BaseException as error:  # any exception is passed on to the coroutine
            self.error = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nothing waits any more
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

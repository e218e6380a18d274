"""Calls that threads make into an event loop and wait for.

There is no lock. A thread that makes a call appends it to a queue and wakes the loop. Whether a
call begins, finishes or is undone is decided in the loop's thread only, where no signal handler
raises. So Ctrl-C may arrive between any two steps of the thread that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Final, Generic, TypeAlias, TypeVar, cast

from ..protocol.errors import ShutdownStarted, TofuError, again
from .waiting import OneShotEvent

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

AsyncFunction: TypeAlias = Callable[[], Coroutine[object, object, T]]
Undo: TypeAlias = Callable[[T], Awaitable[object]]

_CLOSED: Final = ShutdownStarted("the engine was closed")


def engine_closed() -> TofuError:
    """A new error for a call that the closed engine cannot carry out."""
    return again(_CLOSED)


class Calls:
    """The calls into one loop that have not finished.

    Attributes:
        made: calls that have not begun. Threads append to it.
        interrupted: calls whose thread was interrupted. Threads append to it.
        running: calls that are being carried out or undone.
        exiting: the interpreter exits, so the threads that wait get no result any more.
    """

    def __init__(self) -> None:
        self.made: deque[Call[object]] = deque()
        self.interrupted: deque[Call[object]] = deque()
        self.running: set[Call[object]] = set()
        self.exiting = False

    # The methods run in the loop's thread.

    def process(self) -> None:
        """Undo the calls that were interrupted, then begin those that were made.

        In this order, because an interrupted thread may have made another call already.
        """
        while self.interrupted:
            self.interrupted.popleft().undo()
        while self.made:
            self.made.popleft().begin()

    def cancel_all(self) -> None:
        """Cancel every running call."""
        for call in self.running:
            call.cancel()

    async def wait_for_all(self) -> None:
        """Wait until no call is running, even if this task is cancelled meanwhile."""
        while self.running:
            with contextlib.suppress(asyncio.CancelledError):  # the calls are cancelled already
                await asyncio.wait({call.task for call in self.running if call.task})

    def refuse_all(self) -> None:
        """Answer the calls that have not begun when the loop is closed: they fail.

        Threads that make calls later cannot wake the loop, and so learn that it is closed.
        """
        while self.interrupted:
            self.interrupted.popleft().undone.set()
        while self.made:
            self.made.popleft().finish(engine_closed())


class Call(Generic[T_co]):
    """One call that a thread waits for. Its methods run in the loop's thread.

    Args:
        calls: the loop's calls, to which this one belongs.
        function: called in the loop's thread; its coroutine becomes a task, in the context of the
            thread that makes the call.
        undo: called in the loop's thread, and awaited, with the result of a call that completed
            although its thread was interrupted.

    Attributes:
        finished: set when the call has returned or raised.
        result: what it returned; present once it is finished and ``error`` is None.
        error: what it raised.
        undone: set when an interrupted call has ended and its result is undone.
        task: carries the call out, or undoes it; None before the call begins.
    """

    __slots__ = (
        "_calls",
        "_context",
        "_function",
        "_interrupted",
        "_undo",
        "error",
        "finished",
        "result",
        "task",
        "undone",
    )

    def __init__(
        self, calls: Calls, function: AsyncFunction[T_co], undo: Undo[T_co] | None
    ) -> None:
        self._calls = calls
        self._context = copy_context()  # of the calling thread: one thread's may begin all calls
        self._function = function
        self._undo = undo
        self._interrupted = False
        self.task: asyncio.Task[T_co] | asyncio.Task[None] | None = None
        self.finished = OneShotEvent()
        self.undone = OneShotEvent()
        self.result: T_co
        self.error: BaseException | None = None

    def begin(self) -> None:
        """Carry the call out, unless its thread was interrupted."""
        if self._interrupted:
            return
        try:
            coroutine = self._function()
        except BaseException as error:  # such as a TypeError about the arguments
            self.finish(error)
            return
        self._calls.running.add(self)
        self.task = task = asyncio.create_task(coroutine, context=self._context)
        task.add_done_callback(self._task_done)

    def cancel(self) -> None:
        """Stop carrying it out, or undoing it."""
        assert self.task is not None
        self.task.cancel()

    def finish(self, error: BaseException | None) -> None:
        """Let the thread continue, unless the interpreter exits and is about to freeze it."""
        if not self._calls.exiting:
            self.error = error
            self.finished.set()

    def undo(self) -> None:
        """Cancel the call, and undo its result if it completed nevertheless."""
        self._interrupted = True
        if self.task is None:
            self.undone.set()
            return
        self._calls.running.add(self)
        task = cast("asyncio.Task[T_co]", self.task)
        task.cancel()
        self.task = asyncio.create_task(self._undo_result_of(task))
        self.task.add_done_callback(self._undo_done)

    async def _undo_result_of(self, task: asyncio.Task[T_co]) -> None:
        if not task.done():
            await asyncio.wait([task])
        if self._undo is not None and not task.cancelled() and task.exception() is None:
            await self._undo(task.result())

    def _undo_done(self, _: object) -> None:
        self._calls.running.discard(self)
        self.undone.set()

    def _task_done(self, task: asyncio.Task[T_co]) -> None:
        if not self._interrupted:
            self._calls.running.discard(self)
        error = engine_closed() if task.cancelled() else task.exception()
        if error is None:
            self.result = task.result()
        self.finish(error)


def with_timeout(function: AsyncFunction[T], seconds: float) -> AsyncFunction[T]:
    """Return a function that does the same, but raises TimeoutError after ``seconds``."""

    async def run() -> T:
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await function()
        except TimeoutError:
            if deadline.expired():
                raise TimeoutError(f"timed out after {seconds:g} s") from None
            raise

    return run

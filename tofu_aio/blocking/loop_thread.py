"""An event loop in a thread of its own, and what others wait for while it does it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, TypeAlias, TypeVar, cast

from ..checks import checked_seconds
from ..protocol.errors import ShutdownStarted, TofuError, again
from ..reactor import LoopFactory
from .waiting import Moment, start

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Asked: TypeAlias = Callable[[], Coroutine[object, object, T]]
TakenBack: TypeAlias = Callable[[T], Awaitable[object]]

_CLOSED: Final = ShutdownStarted("the engine was closed")


class LoopThread:
    """A thread that runs a loop, and in it an async context manager, until it is closed.

    It is a daemon, so that the interpreter does not wait at its exit for a thread that nobody
    will end; it ends it itself then, closing what was left open. Until that, all threads that
    are no daemons have ended, and may have used it.

    There is no lock. A thread that wants something puts it in a queue and wakes the loop; what
    becomes of it is decided in the loop alone, where no signal's exception is raised. So Ctrl-C may
    come between any two steps of the thread that waits.

    Args:
        loop_factory: makes the loop.
        resource: entered before anything is asked, left when it is closed.
        abort: called in the loop, any number of times, so that the resource is left at once.
    """

    def __init__(
        self,
        loop_factory: LoopFactory,
        resource: AbstractAsyncContextManager[object],
        abort: Callable[[], None],
    ) -> None:
        self._loop_factory = loop_factory
        self._resource = resource
        self._abort_resource = abort
        self._thread: threading.Thread
        self._process = os.getpid()  # in which it was started, once it was
        self._started = False
        self._decided: dict[str, str] = {}  # by whom it was decided whether the thread lives
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.Future[None]
        self._open = False
        self._closing = False
        self._asked: deque[_Call[object]] = deque()
        self._interrupted: deque[_Call[object]] = deque()
        self._calls: set[_Call[object]] = set()  # that have begun
        self._begun = Moment()
        self._ended = Moment()
        self._failure: BaseException | None = None
        self._exiting = False

    def start(self) -> None:
        """Begin, once. Interrupted, by Ctrl-C say, it leaves nothing open.

        Raises:
            RuntimeError: it has begun before, or an event loop runs in this thread.
            OSError: there is no descriptor to spare for the loop.
        """
        _check_no_loop_is_running()
        if self._started:
            raise RuntimeError("the engine was entered before, and can be once: make another")
        try:
            # Not sooner: in a forked child Python 3.13.0 starts none that was made before the fork.
            self._thread = threading.Thread(target=self._run, name="tofu_aio", daemon=True)
            self._process = os.getpid()
            self._started = True
            start(self._thread)
            self._begun.wait()
            self._raise_failure()
            atexit.register(self._at_exit)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the resource and end the thread. Repeatable, from any thread.

        Interrupted, by Ctrl-C say, it has the loop abort what is left, and waits no more.
        """
        try:
            if self._is_the_parents():
                return
            _check_no_loop_is_running()
            if not self._started or not self._lives("close"):
                return
            self._closing = True
            self._begun.wait()
            self.tell(self._leave)
            self._ended.wait()
        except _LoopIsRunning:
            raise
        except BaseException:
            if self._started and not self._is_the_parents():
                self._closing = True  # for a loop that is not made yet
                self.tell(self._abort)
            raise
        self._thread.join()
        atexit.unregister(self._at_exit)
        self._raise_failure()

    # --- what others ask ------------------------------------------------------------------

    def ask(
        self,
        function: Asked[T],
        *,
        timeout: float | None = None,
        unheard: TakenBack[T] | None = None,
    ) -> T:
        """Run a coroutine function in the loop, and return what it does, or raise that.

        Interrupted, by Ctrl-C say, it cancels that and waits until it has ended; interrupted once
        more it does not wait.

        Args:
            function: called in the loop's thread.
            timeout: seconds; None waits without end. Counted in the loop, where what has been
                taken and what has timed out exclude each other.
            unheard: called in the loop, and awaited, with a result that was there before this
                thread was interrupted, and that it can no longer return.

        Raises:
            TimeoutError: it took longer.
            TypeError, ValueError: ``timeout`` is no number of seconds, 0 or more.
            ShutdownStarted: the thread was closed, or is not open yet.
            RuntimeError: an event loop runs in this thread, or this is a forked child.
        """
        if self._is_the_parents():
            raise RuntimeError(
                "the engine belongs to the process that entered it: after a fork the child needs "
                "one of its own"
            )
        _check_no_loop_is_running()
        if timeout is not None:
            function = _within(function, checked_seconds("timeout", timeout))
        if not self._open:
            if self.closed:
                raise _closed()
            raise ShutdownStarted("the engine is not running: use it in 'with Engine()'")
        call = _Call(self, function, unheard)
        try:
            self._asked.append(call)
            if not self.tell(self._attend):
                raise _closed()
            call.ended.wait()
            error = call.error
            if error is None:
                return call.result
        except BaseException:
            # First of all a single step, after which the loop takes care of it. The next exception
            # of a signal comes after that at the earliest, and is raised at once.
            self._interrupted.append(call)
            if self.tell(self._attend):
                call.undone.wait()
            raise
        try:
            raise error
        finally:
            del error, call  # which its traceback would keep, and they it

    def call(self, function: Callable[[], T]) -> T:
        """Run a plain function in the loop, and return what it does, or raise that."""

        async def run() -> T:
            return function()

        return self.ask(run)

    def take(self, function: Asked[T], timeout: float | None, kept: deque[T]) -> T:
        """Ask for the next of a queue; what an interrupted thread has taken is the next one's."""

        async def next_one() -> T:
            return kept.popleft() if kept else await function()

        async def keep(item: T) -> None:
            kept.appendleft(item)

        return self.ask(next_one, timeout=timeout, unheard=keep)

    def tell(self, callback: Callable[[], object]) -> bool:
        """Have something called in the loop, and wait for nothing. False: there is none."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def leave(self, function: Asked[None]) -> None:
        """Ask for something to be closed, unless that has been done with the engine.

        In a forked child nothing is done: what there is belongs to the parent.
        """
        if not self._is_the_parents():
            with contextlib.suppress(ShutdownStarted):
                self.ask(function)

    @property
    def closed(self) -> bool:
        """Whether it was open and is no more, or is being closed. From any thread."""
        return self._begun.come and not self._open

    def _is_the_parents(self) -> bool:
        """Whether this is a forked child, which has not got the thread."""
        return os.getpid() != self._process

    # --- the thread -----------------------------------------------------------------------

    def _lives(self, who: str) -> bool:
        """Whether the thread does its work: it does if it is the first to ask that."""
        return self._decided.setdefault("by", who) == "thread"

    def _run(self) -> None:
        if not self._lives("thread"):
            return  # starting it was interrupted
        try:
            loop = self._loop_factory()
            try:
                self._leaving = loop.create_future()
                self._loop = loop  # from now on it may be told to leave
                life = loop.create_task(self._live())
                try:
                    loop.run_until_complete(life)
                finally:
                    if not life.done():  # a callback's SystemExit stops any loop
                        life.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            loop.run_until_complete(life)
            finally:
                loop.close()
        except BaseException as error:
            self._failure = error
        finally:
            self._refuse()
            self._begun.set()
            self._ended.set()

    async def _live(self) -> None:
        try:
            async with self._resource:
                self._open = True
                self._begun.set()
                if not self._closing:
                    await self._leaving
        finally:
            # What was asked before begins now, and what has ended with the resource says so.
            self._attend()
            self._open = False
            await asyncio.sleep(0)
            self._cancel_calls()
            while self._calls:
                with contextlib.suppress(asyncio.CancelledError):  # it is being cancelled already
                    await asyncio.wait({call.task for call in self._calls if call.task})

    def _attend(self) -> None:
        """Do what threads want: take back first, for whoever was interrupted may ask anew."""
        while self._interrupted:
            self._interrupted.popleft().take_back()
        while self._asked:
            self._asked.popleft().begin()

    def _leave(self) -> None:
        self._open = False
        if not self._leaving.done():
            self._leaving.set_result(None)

    def _abort(self) -> None:
        """Leave at once, however far leaving has come, and whatever is still being connected."""
        self._leave()
        self._cancel_calls()
        self._abort_resource()

    def _cancel_calls(self) -> None:
        for call in self._calls:
            call.cancel()

    def _refuse(self) -> None:
        """The loop is closed: whoever could still wake it is answered, all others see it closed."""
        while self._interrupted:
            self._interrupted.popleft().undone.set()
        while self._asked:
            self._asked.popleft().end(_closed())

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _at_exit(self) -> None:
        # Daemons that wait here are frozen in a moment. Until then they had better go on waiting:
        # what they would raise, and print, is nobody's concern any more.
        self._exiting = True
        self.close()


class _Call(Generic[T_co]):
    """One thing that a thread waits for while the loop does it. Its methods belong to the loop.

    Attributes:
        ended: when it is done.
        result: what came of it, once it has ended and there is no error.
        error: why nothing did.
        undone: when it was taken back.
        task: what does it, or takes it back; None before it has begun.
    """

    __slots__ = (
        "_function",
        "_owner",
        "_taken_back",
        "_unheard",
        "ended",
        "error",
        "result",
        "task",
        "undone",
    )

    def __init__(
        self, owner: LoopThread, function: Asked[T_co], unheard: TakenBack[T_co] | None
    ) -> None:
        self._owner = owner
        self._function = function
        self._unheard = unheard
        self._taken_back = False
        self.task: asyncio.Task[T_co] | asyncio.Task[None] | None = None
        self.ended = Moment()
        self.undone = Moment()
        self.result: T_co
        self.error: BaseException | None = None

    def begin(self) -> None:
        """Do it, unless it was taken back."""
        if self._taken_back:
            return
        try:
            coroutine = self._function()
        except BaseException as error:  # an argument too many, say: its thread waits for that too
            self.end(error)
            return
        self._owner._calls.add(self)
        self.task = task = asyncio.create_task(coroutine)
        task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Do it, or take it back, no longer."""
        assert self.task is not None
        self.task.cancel()

    def end(self, error: BaseException | None) -> None:
        """Let the thread go on, unless it is about to be frozen."""
        if not self._owner._exiting:
            self.error = error
            self.ended.set()

    def take_back(self) -> None:
        """Cancel it, and undo what it has brought."""
        self._taken_back = True
        if self.task is None:
            self.undone.set()
            return
        self._owner._calls.add(self)
        task = cast("asyncio.Task[T_co]", self.task)
        task.cancel()
        self.task = asyncio.create_task(self._undo(task))
        self.task.add_done_callback(self._undone)

    async def _undo(self, task: asyncio.Task[T_co]) -> None:
        if not task.done():
            await asyncio.wait([task])
        if self._unheard is not None and not task.cancelled() and task.exception() is None:
            await self._unheard(task.result())

    def _undone(self, _: object) -> None:
        self._owner._calls.discard(self)
        self.undone.set()

    def _finish(self, task: asyncio.Task[T_co]) -> None:
        if not self._taken_back:
            self._owner._calls.discard(self)
        error = _closed() if task.cancelled() else task.exception()
        if error is None:
            self.result = task.result()
        self.end(error)


def _within(function: Asked[T], timeout: float) -> Asked[T]:
    async def run() -> T:
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await function()
        except TimeoutError:
            if deadline.expired():
                raise TimeoutError(f"timed out after {timeout:g} s") from None
            raise

    return run


def _closed() -> TofuError:
    return again(_CLOSED)


class _LoopIsRunning(RuntimeError):
    """Waiting here would stop a loop."""


def _check_no_loop_is_running() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise _LoopIsRunning(
        "an event loop runs in this thread, and tofu_aio.blocking would stop it: use "
        "tofu_aio itself here, or another thread"
    )

"""An event loop in a thread of its own, and what others wait for while it does it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, TypeAlias, TypeVar

from ..messaging.checks import checked_seconds
from ..protocol.errors import ShutdownStarted, TofuError, again
from ..reactor import LoopFactory
from .waiting import SLICE, wait

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Asked: TypeAlias = Callable[[], Coroutine[object, object, T]]

_CLOSED: Final = ShutdownStarted("the engine was closed")


class LoopThread:
    """A thread that runs a loop, and in it an async context manager, until it is closed.

    It is a daemon, so that the interpreter does not wait at its exit for a thread that nobody
    will end; it ends it itself then, closing what was left open. Until that, all threads that
    are no daemons have ended, and may have used it.

    Args:
        loop_factory: makes the loop.
        resource: entered before anything is asked, left when it is closed.
    """

    def __init__(
        self, loop_factory: LoopFactory, resource: AbstractAsyncContextManager[object]
    ) -> None:
        self._loop_factory = loop_factory
        self._resource = resource
        self._thread = threading.Thread(target=self._run, name="tofu_aio", daemon=True)
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop
        self._life: asyncio.Task[None]
        self._closing: asyncio.Future[None]
        self._open = False
        self._asking = threading.RLock()  # asking and closing: who was let in is answered
        self._calls: set[_Call[object]] = set()
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._exiting = False

    def start(self) -> None:
        """Begin, once.

        Raises:
            RuntimeError: it has begun before, or an event loop runs in this thread.
            OSError: there is no descriptor to spare for the loop.
        """
        _check_no_loop_is_running()
        if self._thread.ident is not None:
            raise RuntimeError("the engine was entered before, and can be once: make another")
        self._thread.start()
        try:
            wait(self._begun)
        except BaseException:
            wait(self._begun)  # it does not take long
            self.close()
            raise
        self._raise_failure()
        atexit.register(self._at_exit)

    def close(self) -> None:
        """Leave the resource and end the thread. Repeatable, from any thread.

        Interrupted, by Ctrl-C say, it cancels the leaving, and then all is aborted.
        """
        if os.getpid() != self._process:
            return  # the thread stayed in the parent
        _check_no_loop_is_running()
        with self._asking:
            if self._open:
                self._open = False
                self._loop.call_soon_threadsafe(self._closing.set_result, None)
        if not self._begun.is_set():
            return
        try:
            wait(self._ended)
        except BaseException:
            self.tell(self._life.cancel)
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
        unheard: Callable[[T], object] = lambda _: None,
    ) -> T:
        """Run a coroutine function in the loop, and return what it does, or raise that.

        Args:
            function: called in the loop's thread.
            timeout: seconds; None waits without end. Counted in the loop, where what has been
                taken and what has timed out exclude each other.
            unheard: called with the result when this thread was interrupted meanwhile, by
                Ctrl-C say, and can no longer return it.

        Raises:
            TimeoutError: it took longer.
            TypeError, ValueError: ``timeout`` is no number of seconds, 0 or more.
            ShutdownStarted: the thread was closed, or is not open yet.
            RuntimeError: an event loop runs in this thread, or this is a forked child.
        """
        if os.getpid() != self._process:
            raise RuntimeError(
                "the engine belongs to the process that made it: after a fork the child needs "
                "one of its own"
            )
        _check_no_loop_is_running()
        if timeout is not None:
            function = _within(function, checked_seconds("timeout", timeout))
        call = _Call(self, function)
        try:
            with self._asking:
                if self._open:
                    self._loop.call_soon_threadsafe(call.begin)
                else:
                    call.end(
                        ShutdownStarted("the engine is not running: use it in 'with Engine()'")
                    )
            call.wait()
            error = call.error
        except BaseException:
            # Ctrl-C again changes nothing: what the loop does for us is over in a moment. No call
            # stands outside of the inner try, for an interrupt is raised in the midst of one.
            while True:
                try:
                    if not self.tell(call.cancel):
                        call.end(_closed())
                    call.wait()
                    if call.error is None:
                        call.error = _CLOSED  # so that it is given on once
                        unheard(call.result)
                except BaseException:  # noqa: S112 - the first is raised
                    continue
                break
            raise
        if error is None:
            return call.result
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
        try:
            return kept.popleft()
        except IndexError:
            return self.ask(function, timeout=timeout, unheard=kept.appendleft)

    def tell(self, callback: Callable[[], object]) -> bool:
        """Have something called in the loop, and wait for nothing. False: it is closed."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def leave(self, function: Asked[None]) -> None:
        """Ask for something to be closed, unless that has been done with the engine.

        In a forked child nothing is done: what there is belongs to the parent.
        """
        if os.getpid() == self._process:
            with contextlib.suppress(ShutdownStarted):
                self.ask(function)

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop = self._loop_factory()
            try:
                self._life = self._loop.create_task(self._live())
                try:
                    self._loop.run_until_complete(self._life)
                finally:
                    if not self._life.done():  # a callback's SystemExit stops any loop
                        self._life.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            self._loop.run_until_complete(self._life)
            finally:
                self._loop.close()
        except asyncio.CancelledError:
            pass  # closing was interrupted, which whoever was has learnt
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.set()
            self._ended.set()

    async def _live(self) -> None:
        self._closing = asyncio.get_running_loop().create_future()
        try:
            async with self._resource:
                self._open = True
                self._begun.set()
                await self._closing
        finally:
            with self._asking:
                self._open = False
            # What was asked before begins now, and what has ended with the resource says so.
            await asyncio.sleep(0)
            for call in self._calls:
                call.cancel()
            while self._calls:
                with contextlib.suppress(asyncio.CancelledError):  # it is being cancelled already
                    await asyncio.wait({call.task for call in self._calls if call.task})

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
    """One thing that a thread waits for while the loop does it.

    Attributes:
        ended: whether it is done.
        result: what came of it, once it has ended and there is no error.
        error: why nothing did.
    """

    __slots__ = ("_done", "_function", "_owner", "ended", "error", "result", "task")

    def __init__(self, owner: LoopThread, function: Asked[T_co]) -> None:
        self._owner = owner
        self._function = function
        self.task: asyncio.Task[T_co] | None = None
        self._done = threading.Lock()  # held until it is: cheaper by far than an Event
        self._done.acquire()
        self.ended = False
        self.result: T_co
        self.error: BaseException | None = None

    def wait(self) -> None:
        """Return once it is done; and again and again."""
        while not self.ended:
            self._done.acquire(timeout=SLICE)

    def begin(self) -> None:
        """In the loop."""
        try:
            coroutine = self._function()
        except BaseException as error:  # an argument too many, say: its thread waits for that too
            self.end(error)
            return
        self._owner._calls.add(self)
        self.task = asyncio.create_task(coroutine)
        self.task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """In the loop, after ``begin`` if that was asked for."""
        if self.task is None:
            self.end(_closed())
        else:
            self.task.cancel()

    def end(self, error: BaseException | None) -> None:
        """Let the thread go on. Only the first end counts."""
        if not self.ended:
            self.error = error
            self.ended = True
            self._done.release()

    def _finish(self, _: object) -> None:
        self._owner._calls.discard(self)
        task = self.task
        assert task is not None
        error = _closed() if task.cancelled() else task.exception()
        if error is None:
            self.result = task.result()
        if not self._owner._exiting:
            self.end(error)


def _within(function: Asked[T], timeout: float) -> Asked[T]:
    async def run() -> T:
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await function()
        except TimeoutError:
            if deadline.expired():
                raise TimeoutError(f"nothing came of it within {timeout:g} s") from None
            raise

    return run


def _closed() -> TofuError:
    return again(_CLOSED)


def _check_no_loop_is_running() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop runs in this thread, and tofu_aio.blocking would stop it: use "
        "tofu_aio itself here, or another thread"
    )

"""A thread that runs an event loop, for calls from other threads."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from ..checks import checked_seconds
from ..protocol.errors import ShutdownStarted
from ..reactor import LoopFactory
from .calls import AsyncFunction, Call, Calls, Undo, engine_closed, with_timeout
from .waiting import OneShotEvent, start_thread

T = TypeVar("T")


class LoopThread:
    """A thread that runs an event loop and holds an async context manager open until closed.

    It is a daemon thread: otherwise the interpreter would wait at exit for a thread that nobody
    ends. An exit handler closes what was left open and ends the thread. Until that handler runs,
    non-daemon threads may still use the loop; it runs after they have ended.

    Args:
        loop_factory: makes the loop.
        resource: entered before the first call, left on closing.
        abort: called in the loop, perhaps several times, to make leaving the resource immediate.
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
        self._calls = Calls()
        self._thread: threading.Thread
        self._process = os.getpid()  # the process that started the thread
        self._started = False
        self._claims: dict[str, str] = {}  # see `_claim`
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.Future[None]
        self._open = False
        self._closing = False
        self._begun = OneShotEvent()  # the resource was entered, or could not be
        self._ended = OneShotEvent()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start the thread and enter the resource. If Ctrl-C interrupts this, nothing stays open.

        Raises:
            RuntimeError: it was started before, or an event loop runs in the calling thread.
            OSError: the loop cannot be created, for example for want of a file descriptor.
        """
        _check_no_loop_is_running()
        if self._started:
            raise RuntimeError(
                "the engine was entered before, and an engine can be entered only once: create "
                "another one"
            )
        try:
            # Created only now: in a forked child Python 3.13.0 cannot start a thread object that
            # was created before the fork.
            self._thread = threading.Thread(target=self._run, name="tofu_aio", daemon=True)
            self._process = os.getpid()
            self._started = True
            start_thread(self._thread)
            self._begun.wait()
            self._raise_failure()
            atexit.register(self._at_exit)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the resource and end the thread. Any thread may call this, any number of times.

        If Ctrl-C interrupts it, the loop aborts what is left, and the call does not wait for that.
        """
        try:
            if self._in_forked_child():
                return
            _check_no_loop_is_running()
            if not self._started or not self._claim("close"):
                return
            self._closing = True
            self._begun.wait()
            self.call_soon(self._leave)
            self._ended.wait()
        except _LoopIsRunning:
            raise
        except BaseException:
            if self._started and not self._in_forked_child():
                self._closing = True  # for a loop that does not exist yet
                self.call_soon(self._abort)
            raise
        self._thread.join()
        atexit.unregister(self._at_exit)
        self._raise_failure()

    # --- for other threads ----------------------------------------------------------------

    def run(
        self,
        function: AsyncFunction[T],
        *,
        timeout: float | None = None,
        undo: Undo[T] | None = None,
    ) -> T:
        """Run a coroutine function in the loop, wait for it, and return its result.

        If Ctrl-C interrupts the wait, this cancels the coroutine and waits until it has ended. A
        second interruption ends that wait, too.

        Args:
            function: called in the loop's thread.
            timeout: seconds; None waits without limit. The loop measures it, so a coroutine that
                has received something cannot also time out.
            undo: called in the loop, and awaited, with the result of a coroutine that completed
                although this thread was interrupted, and so cannot return the result.

        Raises:
            TimeoutError: the coroutine took longer than ``timeout``.
            TypeError, ValueError: ``timeout`` is not a number of seconds, 0 or more.
            ShutdownStarted: the thread was closed, or is not open yet.
            RuntimeError: an event loop runs in the calling thread, or this is a forked child.
        """
        if self._in_forked_child():
            raise RuntimeError(
                "the engine belongs to the parent of this forked process: create another engine "
                "in the child"
            )
        _check_no_loop_is_running()
        if timeout is not None:
            function = with_timeout(function, checked_seconds("timeout", timeout))
        if not self._open:
            if self.closed:
                raise engine_closed()
            raise ShutdownStarted("the engine is not running: use it inside 'with Engine()'")
        call = Call(self._calls, function, undo)
        try:
            self._calls.made.append(call)
            if not self.call_soon(self._calls.process):
                raise engine_closed()
            call.finished.wait()
            error = call.error
            if error is None:
                return call.result
        except BaseException:
            # The first statement is a single step, and from then on the loop takes care of the
            # call. Another signal handler can raise only after it, and ends this at once.
            self._calls.interrupted.append(call)
            if self.call_soon(self._calls.process):
                call.undone.wait()
            raise
        try:
            raise error
        finally:
            del error, call  # the traceback would keep them alive, and they the traceback

    def call(self, function: Callable[[], T]) -> T:
        """Call a plain function in the loop's thread and return its result."""

        async def run() -> T:
            return function()

        return self.run(run)

    def receive_item(
        self, function: AsyncFunction[T], timeout: float | None, returned: deque[T]
    ) -> T:
        """Receive the next item: from ``returned``, or else by running ``function``.

        An item that an interrupted call has received goes to ``returned``, for the next call.
        """

        async def receive_next() -> T:
            return returned.popleft() if returned else await function()

        async def return_item(item: T) -> None:
            returned.appendleft(item)

        return self.run(receive_next, timeout=timeout, undo=return_item)

    def call_soon(self, callback: Callable[[], object]) -> bool:
        """Schedule a callback in the loop, without waiting. Return False if there is no loop."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def run_closing(self, function: AsyncFunction[None]) -> None:
        """Run a coroutine function that closes something.

        Does nothing if the engine is closed, for then everything is. Does nothing in a forked
        child, either: everything belongs to the parent.
        """
        if not self._in_forked_child():
            with contextlib.suppress(ShutdownStarted):
                self.run(function)

    @property
    def closed(self) -> bool:
        """Whether it was open and is closed, or closing. Any thread may ask."""
        return self._begun.is_set and not self._open

    def _in_forked_child(self) -> bool:
        """Whether this process is a fork of the one that started the thread, and so lacks it."""
        return os.getpid() != self._process

    # --- in the thread --------------------------------------------------------------------

    def _claim(self, caller: str) -> bool:
        """Decide, in one step, whether the thread runs. It does if the thread is the first to ask.

        ``close`` asks as well: it may be called before an interrupted ``start`` has had the thread
        started.
        """
        return self._claims.setdefault("first", caller) == "thread"

    def _run(self) -> None:
        if not self._claim("thread"):
            return  # `start` was interrupted, and has closed this already
        try:
            loop = self._loop_factory()
            try:
                self._leaving = loop.create_future()
                self._loop = loop  # from now on other threads can make it leave
                main = loop.create_task(self._hold_resource())
                try:
                    loop.run_until_complete(main)
                finally:
                    if not main.done():  # SystemExit in a callback stops any loop
                        main.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            loop.run_until_complete(main)
            finally:
                loop.close()
        except BaseException as error:
            self._failure = error
        finally:
            self._calls.refuse_all()
            self._begun.set()
            self._ended.set()

    async def _hold_resource(self) -> None:
        try:
            async with self._resource:
                self._open = True
                self._begun.set()
                if not self._closing:
                    await self._leaving
        finally:
            # Calls that were made before begin now. They fail with the closed resource's error.
            self._calls.process()
            self._open = False
            await asyncio.sleep(0)
            self._calls.cancel_all()
            await self._calls.wait_for_all()

    def _leave(self) -> None:
        self._open = False
        if not self._leaving.done():
            self._leaving.set_result(None)

    def _abort(self) -> None:
        """Leave at once, even if leaving has begun, or something is still connecting."""
        self._leave()
        self._calls.cancel_all()
        self._abort_resource()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _at_exit(self) -> None:
        # The interpreter is about to freeze the daemon threads that wait for calls. They should
        # not wake up before that, only to raise and print errors that concern nobody.
        self._calls.exiting = True
        self.close()


class _LoopIsRunning(RuntimeError):
    """A blocking call would block the event loop of its thread."""


def loop_is_running() -> bool:
    """Whether an event loop runs in the calling thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_no_loop_is_running() -> None:
    if loop_is_running():
        raise _LoopIsRunning(
            "an event loop runs in this thread, and tofu_aio.blocking would block it: use "
            "tofu_aio's async API here, or call tofu_aio.blocking in another thread"
        )

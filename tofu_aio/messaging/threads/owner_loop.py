"""The event loop that an engine belongs to, and calls into it from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from ...protocol.errors import ShutdownStarted, TofuError

Call: TypeAlias = Callable[[], None]

NOT_YOURS: Final = (
    "the engine belongs to the parent process, which entered it: create a new one in the child"
)


class OwnerLoop:
    """The loop in which an engine was entered, and its thread.

    Attributes:
        thread: the identifier of the thread; 0 before ``enter``.
        in_parent: whether this process is a forked child, so that the engine is its parent's and
            has nothing to close here.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.in_parent = False

    def enter(self) -> None:
        """Make the running loop the owner."""
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    @property
    def alive(self) -> bool:
        """Whether there is a loop, and it is not closed."""
        return self._loop is not None and not self._loop.is_closed()

    def is_here(self) -> bool:
        """Return whether this is the running loop. To be called in a loop."""
        return self._loop is asyncio.get_running_loop()

    def check(self) -> None:
        """Raise unless this is the running loop. To be called in a loop.

        Raises:
            ShutdownStarted: the owner loop was closed, or is that of the parent process.
            RuntimeError: another loop is running.
        """
        if self.in_parent:
            raise ShutdownStarted(NOT_YOURS)
        if not self.is_here():
            if not self.alive:
                raise loop_closed()
            raise RuntimeError(
                "the engine belongs to another event loop, in which it was entered: use it there, "
                "or create another engine in this loop"
            )

    @property
    def running(self) -> bool:
        """Whether the loop is running."""
        return self._loop is not None and self._loop.is_running()

    def time(self) -> float:
        """Return the time of the loop's clock, in seconds."""
        assert self._loop is not None
        return self._loop.time()

    def call_later(self, seconds: float, callback: Call) -> asyncio.TimerHandle:
        """Have a function called after some seconds. To be called in the owner loop."""
        assert self._loop is not None
        return self._loop.call_later(seconds, callback)

    def call_soon(self, callback: Call) -> None:
        """Have a function called in the next turn. For any thread, and for finalizers.

        Raises:
            RuntimeError: the loop is closed.
        """
        assert self._loop is not None
        if threading.get_ident() == self.thread:
            self._loop.call_soon(callback)
        else:
            self._loop.call_soon_threadsafe(callback)


def loop_closed() -> TofuError:
    """Return the error for operations that need the loop."""
    return ShutdownStarted("the engine's event loop was closed")

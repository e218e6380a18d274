"""Where an engine lives, and how other threads get something done there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from ...protocol.errors import ShutdownStarted, TofuError

Call: TypeAlias = Callable[[], None]

NOT_YOURS: Final = (
    "the engine belongs to the process that entered it: after a fork the child needs its own"
)


class OwnerLoop:
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
                raise loop_closed()
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


def loop_closed() -> TofuError:
    """The error for what would need the loop."""
    return ShutdownStarted("the engine's event loop was closed")

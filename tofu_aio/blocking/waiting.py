"""Waiting in a thread so that Ctrl-C ends the wait on every system and leaves no lock held.

A signal handler may raise after any step of a thread, for example after the thread has acquired a
lock and before it enters the ``try`` that would release it. So no blocking call takes a lock that
Python code releases: neither a lock of this package nor those inside ``threading.Event`` and
``Thread.start``.
"""

from __future__ import annotations

import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

SLICE: Final = 0.1 if sys.platform == "win32" else 1.0
"""How long one wait on a queue lasts, in seconds; waits are repeated until an item arrives.

On Windows Ctrl-C does not interrupt the wait, and Python handles the signal after it (``signal`` in
the library reference). Elsewhere Ctrl-C interrupts the wait, unless it arrives after Python has
checked for signals and before the kernel waits. Then Python handles it after the slice; a wait
without slices would miss it until something else ended the wait."""


def wait_for_item(queue: SimpleQueue[T], after_slice: Callable[[], object] = lambda: None) -> T:
    """Wait for the queue's next item and remove it. Call ``after_slice`` after each slice."""
    while True:
        try:
            return queue.get(timeout=SLICE)
        except Empty:
            after_slice()


class OneShotEvent:
    """An event that is set once, and that any number of threads can wait for.

    Attributes:
        is_set: whether it has been set.
    """

    __slots__ = ("_wake_ups", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._wake_ups: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Set it. Any thread may call this, any number of times."""
        self.is_set = True
        self._wake_ups.put(None)

    def wait(self) -> None:
        """Return once it is set."""
        while not self.is_set:
            try:
                self._wake_ups.get(timeout=SLICE)
            except Empty:
                continue
            self._wake_ups.put(None)  # wakes the next waiter, which would else sleep out its slice


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    ``Thread.start`` takes locks that all threads share, and a signal handler that raises there
    would leave them locked. So a helper thread calls it: signal handlers run in the main thread
    only.

    Raises:
        RuntimeError: the system cannot start another thread.
    """
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def begin() -> None:
        try:
            thread.start()
        except BaseException as error:
            outcome.put(error)
        else:
            outcome.put(None)

    start_new_thread(begin, ())
    error = wait_for_item(outcome)
    if error is not None:
        raise error

"""Waiting in a thread so that Ctrl-C ends it on every system, and leaves nothing locked.

The signal's exception may be raised after whatever a thread does, also right after it has acquired
a lock and before the ``with`` that would release it has begun. So no blocking call takes a lock
that Python code releases: none of its own, and none of ``threading.Event`` or ``Thread.start``.
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
"""Seconds that a queue is waited for at a time. On Windows a Ctrl-C does not end the wait, but is
looked for after it (``signal`` in the library reference). Elsewhere it does, unless it comes as the
wait begins: when Python has looked for signals, and the kernel does not wait yet. Then, too, it is
heard after the slice; and without one never, if nothing else ends the wait."""


def next_of(queue: SimpleQueue[T], meanwhile: Callable[[], object] = lambda: None) -> T:
    """Wait for the next item, and take it; until then do something after each slice."""
    while True:
        try:
            return queue.get(timeout=SLICE)
        except Empty:
            meanwhile()


class Moment:
    """Something that comes once, and for which any number of threads wait.

    Attributes:
        come: whether it has.
    """

    __slots__ = ("_bell", "come")

    def __init__(self) -> None:
        self.come = False
        self._bell: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """It has come. From any thread, any number of times."""
        self.come = True
        self._bell.put(None)

    def wait(self) -> None:
        """Return once it has come."""
        while not self.come:
            try:
                self._bell.get(timeout=SLICE)
            except Empty:
                continue
            self._bell.put(None)  # for who waits as well; without it they would look a slice later


def start(thread: threading.Thread) -> None:
    """Start a thread.

    ``Thread.start`` takes locks that all threads share. So another thread does that, one that no
    signal interrupts.

    Raises:
        RuntimeError: the system has no thread to spare.
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
    error = next_of(outcome)
    if error is not None:
        raise error

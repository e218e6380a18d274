"""Waiting in a thread so that Ctrl-C ends it on every system."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final

SLICE: Final = 0.1 if sys.platform == "win32" else 1.0
"""Seconds that a lock is waited for at a time. On Windows a Ctrl-C does not end the wait, but is
looked for after it (``signal`` in the library reference). Elsewhere it does, unless it comes as the
wait begins: when Python has looked for signals, and the kernel does not wait yet. Then, too, it is
heard after the slice; and without one never, if nothing else ends the wait."""


def wait(event: threading.Event) -> None:
    """Return once it is set."""
    while not event.wait(SLICE):
        pass


def acquire(places: threading.Semaphore, meanwhile: Callable[[], None]) -> None:
    """Return once there was a place, and it is taken; until then look about once a slice."""
    while not places.acquire(timeout=SLICE):
        meanwhile()

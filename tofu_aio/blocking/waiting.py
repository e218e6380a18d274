"""Waiting in a thread so that Ctrl-C ends it on every system."""

from __future__ import annotations

import sys
import threading
from typing import Final

SLICE: Final = 0.1 if sys.platform == "win32" else -1.0
"""Seconds that a lock is waited for at a time, -1 without end: on Windows a Ctrl-C does not end
the wait, but is looked for after it (``signal`` in the library reference)."""

_TIMEOUT: Final = None if SLICE < 0 else SLICE
"""The same for what says None where a lock says -1."""


def wait(event: threading.Event) -> None:
    """Return once it is set."""
    while not event.wait(_TIMEOUT):
        pass


def acquire(places: threading.Semaphore) -> None:
    """Return once there was a place, and it is taken."""
    while not places.acquire(timeout=_TIMEOUT):
        pass

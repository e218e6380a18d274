"""Asking a poller what is ready, in words that hold for every system."""

from __future__ import annotations


def look(poller, timeout, limit):
    """Return what `wait` says, as pairs of descriptor and readiness."""
    return [(fd, poller.meaning[flags]) for fd, flags in poller.wait(timeout, limit)]

"""What a forked child does with inherited objects, before any other code of it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")


def inherited(leave_parent: Callable[[T], object]) -> WeakSet[T]:
    """Return a weak set whose members are passed to ``leave_parent`` in each forked child.

    If there are several such sets, they are handled in the order in which they were made.
    """
    living: WeakSet[T] = WeakSet()

    def leave() -> None:
        with ExitStack() as all_of_them:  # if one call fails, the others are still made
            for each in list(living):
                all_of_them.callback(leave_parent, each)

    at_fork(after_in_child=leave)
    return living


def at_fork(**functions: Callable[[], object]) -> None:
    """Call `os.register_at_fork`, if the system has forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**functions)

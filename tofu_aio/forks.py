"""What a forked child does with the objects it inherits, before any code of its own runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")


def inherited(leave_parent: Callable[[T], object]) -> WeakSet[T]:
    """Return a set whose living members are given to this function in each forked child.

    The sets have their turns in the order in which they were made.
    """
    living: WeakSet[T] = WeakSet()

    def leave() -> None:
        with ExitStack() as all_of_them:  # one that fails leaves none of the others undone
            for each in list(living):
                all_of_them.callback(leave_parent, each)

    at_fork(after_in_child=leave)
    return living


def at_fork(**functions: Callable[[], object]) -> None:
    """Do what `os.register_at_fork` does, where there are forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**functions)

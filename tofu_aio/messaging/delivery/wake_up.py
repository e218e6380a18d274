"""Letting a task go on there and then, without a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TypeAlias, TypeVar

T = TypeVar("T")

WakeUps: TypeAlias = list[tuple[Context, Callable[[object], object], object]]
"""What continues those whose result is there, and who do not know it yet: where it runs, a call,
and the future that it is told."""


def complete(future: asyncio.Future[T], result: T, wake_ups: WakeUps) -> None:
    """Set a future's result; ``go_on`` continues who awaits it.

    A future wakes its task in the next turn of the loop. That turn, with its look at every socket,
    costs more than all else that is done for a small message. So its callbacks are taken from the
    future, which asyncio gives no public way to do: where a loop's futures have none to show, they
    call them themselves.
    """
    callbacks = getattr(future, "_callbacks", None) or ()
    for fn, context in [*callbacks]:
        future.remove_done_callback(fn)
        wake_ups.append((context, fn, future))
    future.set_result(result)


def run_wake_ups(wake_ups: WakeUps) -> None:
    """Continue all of them, in order; the list is empty then.

    Not within another task, where asyncio does not allow that: then they are called soon. So are
    the others when one of them ends the program; and so it ends, for uvloop would take what its
    read callback raises for a failure of the connection.
    """
    if asyncio.current_task() is not None:
        schedule_wake_ups(wake_ups)
        return
    wake_ups.reverse()  # popped one by one, so that nobody's result is kept for the others' sake
    try:
        while wake_ups:
            context, fn, future = wake_ups.pop()
            context.run(fn, future)
    except (SystemExit, KeyboardInterrupt) as end:
        asyncio.get_running_loop().call_soon(_raise, end)
    finally:
        if wake_ups:
            wake_ups.reverse()
            schedule_wake_ups(wake_ups)


def schedule_wake_ups(wake_ups: WakeUps) -> None:
    """Continue all of them in the next turn, in order; the list is empty then."""
    for context, fn, future in wake_ups:
        asyncio.get_running_loop().call_soon(fn, future, context=context)
    wake_ups.clear()


def _raise(error: BaseException) -> None:
    raise error

"""Continuing a task inline, without a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TypeAlias, TypeVar

from ...core import fast

T = TypeVar("T")

WakeUps: TypeAlias = list[tuple[Context, Callable[[object], object], object]]
"""Callbacks of futures that have their result, to be called: context, callback, and the future as
its argument."""


@fast
def complete(future: asyncio.Future[T], result: T, wake_ups: WakeUps) -> None:
    """Set a future's result; ``run_wake_ups`` then continues the task that awaits it.

    A future wakes its task in the next turn of the loop. That turn, in which the loop checks every
    socket, costs more than everything else that is done for a small message. So the callbacks are
    taken from the future, for which asyncio has no public interface. Where a loop's futures do not
    show their callbacks, they call them themselves.
    """
    callbacks = getattr(future, "_callbacks", None) or ()
    for fn, context in [*callbacks]:
        future.remove_done_callback(fn)
        wake_ups.append((context, fn, future))
    future.set_result(result)


@fast
def run_wake_ups(wake_ups: WakeUps) -> None:
    """Call all callbacks, in order, and empty the list.

    Within another task, where asyncio does not allow that, they are called in the next turn. The
    same holds for the rest when one of them raises SystemExit or KeyboardInterrupt. That exception
    is also raised in the next turn, because uvloop would take an exception from its read callback
    for a failure of the connection.
    """
    if asyncio.current_task() is not None:
        schedule_wake_ups(wake_ups)
        return
    wake_ups.reverse()  # popped one by one, so that no result is kept alive until the last call
    try:
        while wake_ups:
            context, fn, future = wake_ups.pop()
            context.run(fn, future)
    except (SystemExit, KeyboardInterrupt) as end:
        asyncio.get_running_loop().call_soon(raise_in_loop, end)
    finally:
        if wake_ups:
            wake_ups.reverse()
            schedule_wake_ups(wake_ups)


def schedule_wake_ups(wake_ups: WakeUps) -> None:
    """Call all callbacks in the next turn, in order, and empty the list."""
    for context, fn, future in wake_ups:
        asyncio.get_running_loop().call_soon(fn, future, context=context)
    wake_ups.clear()


def raise_in_loop(error: BaseException) -> None:
    """Raise it, as a callback of the loop."""
    raise error

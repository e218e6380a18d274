"""What goes on after channels and listeners are closed: connections to brokers are closed, too."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

import anyio

from .. import forks

_releasing: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[None]]] = (
    WeakKeyDictionary()
)

forks.at_fork(after_in_child=_releasing.clear)


def note_releasing(task: asyncio.Task[None]) -> None:
    """Note a task that releases something, in bounded time."""
    tasks = _releasing.setdefault(task.get_loop(), set())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def all_released() -> None:
    """Wait until all such tasks of this event loop have ended, also in a cancelled scope."""
    tasks = _releasing.get(asyncio.get_running_loop())
    while tasks:
        with anyio.CancelScope(shield=True):
            await asyncio.wait(tasks)

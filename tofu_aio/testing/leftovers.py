"""What a test must not leave behind: tasks, channels and permits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Unpack

from ..messaging.engine import Engine
from ..messaging.limits import EngineOptions

_TURNS: Final = 5
"""Turns of the loop in which tasks may end that have nothing more to wait for."""


@asynccontextmanager
async def checked_tasks() -> AsyncGenerator[None]:
    """At the end of the block no task may be running that was begun in it.

    Raises:
        AssertionError: one is.
    """
    before = asyncio.all_tasks()
    yield
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    now = asyncio.all_tasks() - {asyncio.current_task()}
    left = {task for task in now - before if not _of_anyio(task)}
    assert not left, (
        f"{len(left)} tasks are still running at the end: {_listed(left)}. Await or cancel them "
        "before the test ends"
    )


@asynccontextmanager
async def checked_engine(**limits: Unpack[EngineOptions]) -> AsyncGenerator[Engine]:
    """An engine. At its end no message may be left that was received and not released.

    If the block raises, nothing is checked: the error's traceback keeps messages alive.

    Args:
        limits: those of the engine.

    Raises:
        AssertionError: one is, or a channel has stayed open.
    """
    async with Engine(**limits) as engine:
        yield engine
    _check_pool(engine)


def _of_anyio(task: asyncio.Task[object]) -> bool:
    """Whether anyio's pytest plugin has begun the task, to wait for the end of a fixture."""
    return getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")


def _listed(tasks: set[asyncio.Task[object]]) -> str:
    return ", ".join(sorted(f"{each.get_name()} ({each.get_coro()!r})" for each in tasks))


def _check_pool(engine: Engine) -> None:
    left = engine.statistics()
    if left.pool_free < left.pool_size or left.reserves:
        gc.collect()  # messages in reference cycles
        left = engine.statistics()
    missing = left.pool_size - left.pool_free + left.reserves
    assert not missing, (
        f"{missing} messages were received and not released: use 'with message:', or release() "
        "each of them"
    )
    assert not left.channels, f"{left.channels} channels were not closed"

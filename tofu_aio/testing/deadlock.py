"""The error of a run that cannot end, which names each task and what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import cast


class Deadlock(Exception):
    """The main coroutine is not done, and nothing can happen any more, or the run has no end.

    The text names each task, where in the code it waits, and what it waits for.
    """


def report(reason: str, tasks: Iterable[asyncio.Task[object]]) -> str:
    """List what each task waits for, and where, innermost frame first."""
    lines = [reason]
    for task in tasks:
        if not task.done():
            lines.append(f"  {task.get_name()} waits for {_awaited(task)}")
            lines += [f"    in {place}" for place in reversed(_places(task))]
    return "\n".join(lines)


def _awaited(task: asyncio.Task[object]) -> str:
    waiter = cast("object", getattr(task, "_fut_waiter", None))
    if isinstance(waiter, asyncio.Task):
        return f"the task {waiter.get_name()}"
    if waiter is None:
        return "its next turn"
    gathered = cast("list[object]", getattr(waiter, "_children", []))
    if names := [each.get_name() for each in gathered if isinstance(each, asyncio.Task)]:
        return "the tasks " + ", ".join(names)
    return "a future that nothing completes"


def _places(task: asyncio.Task[object]) -> list[str]:
    """The frames of a task: the function that it runs, the one which that awaits, and so on."""
    places: list[str] = []
    step: object = task.get_coro()
    while step is not None:
        frame = cast("FrameType | None", _first(step, "cr_frame", "gi_frame", "ag_frame"))
        if frame is not None:
            code: CodeType = frame.f_code
            places.append(f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})")
        step = _first(step, "cr_await", "gi_yieldfrom", "ag_await")
    return places


def _first(step: object, *names: str) -> object:
    return next((getattr(step, name) for name in names if hasattr(step, name)), None)

"""Every way to wait for what a channel's methods return."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import anyio

from tests.core.talking import BASE, Side, framed
from tests.messaging.peers import PATIENCE
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode


def _holds_up(side: Side) -> None:
    side.connection.pause_writing()


def _lets_go(side: Side) -> None:
    side.connection.resume_writing()


def _request_arrives(side: Side) -> None:
    side.feed(framed(OpCode.REQUEST, BASE, b"ask"), buffered=True)


class Method(NamedTuple):
    """One of the methods, and what happens to a side for it."""

    call: Callable[[Side], Any]
    holds_up: Callable[[Side], object]
    """Makes a later call wait."""
    lets_go: Callable[[Side], object]
    """Ends the wait of a call, or lets one that comes end at once."""


def _nothing(side: Side) -> None:
    pass


def _request_to_answer() -> Message:
    return Message(OpCode.REQUEST, b"ask", None, BASE + 5)


METHODS: Final = {
    "receive": Method(lambda side: side.channel.receive(), _nothing, _request_arrives),
    "__anext__": Method(lambda side: side.channel.__anext__(), _nothing, _request_arrives),
    "request": Method(
        lambda side: side.channel.request(b"body", {"a": "1"}),
        _nothing,
        lambda side: side.answer(0, OpCode.RESPONSE, b"answer"),
    ),
    "request behind others": Method(
        lambda side: side.channel.request(b"body"), _holds_up, _lets_go
    ),
    "reply": Method(
        lambda side: side.channel.reply(_request_to_answer(), b"answer"), _holds_up, _lets_go
    ),
    "signal": Method(lambda side: side.channel.signal(b"body"), _holds_up, _lets_go),
    "send": Method(
        lambda side: side.channel.send(Message(OpCode.SIGNAL, b"body")), _holds_up, _lets_go
    ),
}
AT_ONCE: Final = ("receive", "__anext__", "reply", "signal", "send")
"""Those that can end without waiting."""


async def _plainly(made: Awaitable[Any]) -> Any:
    return await made


async def _gathered(made: Awaitable[Any]) -> Any:
    (result,) = await asyncio.gather(made)
    return result


async def _within(made: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(made, PATIENCE)


async def _in_time(made: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await made


async def _as_task(made: Any) -> Any:
    return await asyncio.create_task(made, name="made")


async def _ensured(made: Awaitable[Any]) -> Any:
    return await asyncio.ensure_future(made)


async def _shielded(made: Awaitable[Any]) -> Any:
    inner = asyncio.ensure_future(made)
    try:
        return await asyncio.shield(inner)
    except asyncio.CancelledError:
        inner.cancel()  # so that nothing is left behind
        await asyncio.gather(inner, return_exceptions=True)
        raise


async def _in_group(made: Any) -> Any:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(made)
    return task.result()


async def _started_soon(made: Any) -> Any:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: made)
    return "started"


async def _scoped(made: Awaitable[Any]) -> Any:
    with anyio.fail_after(PATIENCE):
        return await made


async def _waited_for(made: Any) -> Any:
    task = asyncio.ensure_future(made)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()


async def _first_completed(made: Awaitable[Any]) -> Any:
    for done in asyncio.as_completed([made]):
        return await done
    return None


async def _from_a_thread(made: Any) -> Any:
    future = asyncio.run_coroutine_threadsafe(made, asyncio.get_running_loop())
    return await asyncio.wrap_future(future)


async def _eagerly(made: Any) -> Any:
    return await asyncio.Task(made, loop=asyncio.get_running_loop(), eager_start=True)


WAYS: Final[dict[str, Callable[[Any], Any]]] = {
    "await": _plainly,
    "gather": _gathered,
    "wait_for": _within,
    "timeout": _in_time,
    "create_task": _as_task,
    "ensure_future": _ensured,
    "shield": _shielded,
    "TaskGroup": _in_group,
    "start_soon": _started_soon,
    "fail_after": _scoped,
    "wait": _waited_for,
    "as_completed": _first_completed,
    "run_coroutine_threadsafe": _from_a_thread,
}
if sys.version_info >= (3, 12):
    WAYS["eager task"] = _eagerly

"""What a task waits for, compared with a future of asyncio."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from types import FrameType
from typing import Any

import anyio
import pytest

from tests.core.talking import Side, turns
from tofu_aio import Message, OpCode
from tofu_aio.messaging.delivery.mailbox import Mailbox

Make = Callable[[], Any]

ACTIONS: dict[str, Callable[[Any], Any]] = {
    "set a result": lambda future: future.set_result(5),
    "set an exception": lambda future: future.set_exception(OSError("by the test")),
    "cancel": lambda future: future.cancel(),
    "cancel with a message": lambda future: future.cancel("enough"),
    "done": lambda future: future.done(),
    "cancelled": lambda future: future.cancelled(),
    "result": lambda future: future.result(),
    "exception": lambda future: repr(future.exception()),
    "go on": lambda future: next(future.__await__()) is future,
    "as a task": lambda future: setattr(future, "_asyncio_future_blocking", False),
}


def made_by_mailbox() -> Any:
    """One of the core's."""
    waiter = Mailbox[object]().arrival()
    assert type(waiter).__name__ == "Waiter"
    return waiter


def made_by_loop() -> Any:
    """One of asyncio's."""
    return asyncio.get_running_loop().create_future()


BOTH: list[Make] = [made_by_mailbox, made_by_loop]


def outcome(action: Callable[[], Any]) -> object:
    """What it returns or raises."""
    try:
        return action()
    except asyncio.InvalidStateError:  # the words differ
        return asyncio.InvalidStateError
    except BaseException as error:
        return type(error), error.args


async def results(future: Any, actions: Sequence[Callable[[Any], Any]]) -> object:
    """What comes of the actions, and which callbacks are called."""
    called: list[object] = []
    for number in range(3):
        future.add_done_callback(lambda _, number=number: called.append(number))
    outcomes = [outcome(partial(act, future)) for act in actions]
    await turns()
    future.add_done_callback(lambda _: called.append("late"))
    await turns()
    if future.done() and not future.cancelled():
        future.exception()  # asyncio logs one that nobody asked for
    return outcomes, called


async def test_it_does_the_same() -> None:
    for names in itertools.product(ACTIONS, repeat=3):
        actions = [ACTIONS[name] for name in names]
        first, second = [await results(make(), actions) for make in BOTH]
        assert first == second, names


@pytest.mark.parametrize("make", BOTH)
async def test_callbacks_run_in_their_context(make: Make) -> None:
    place: ContextVar[str] = ContextVar("place")
    future, seen = make(), []
    place.set("first")
    future.add_done_callback(lambda _: seen.append(place.get()))
    other = copy_context()
    other.run(place.set, "second")
    future.add_done_callback(lambda _: seen.append(place.get()), context=other)
    place.set("third")
    future.set_result(None)
    await turns()
    assert seen == ["first", "second"]


async def awaited(future: Any) -> object:
    """Nothing else."""
    return await future


TASKS: dict[str, Callable[[Coroutine[Any, Any, object]], Any]] = {
    "asyncio's": asyncio.create_task,
    "in Python": asyncio.tasks._PyTask,  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(
    "ending", ["set a result", "set an exception", "cancel", "cancel with a message"]
)
async def test_a_task_that_awaits_it_goes_on(kind: str, ending: str) -> None:
    found = []
    for make in BOTH:
        future = make()
        task = TASKS[kind](awaited(future))
        await turns()
        assert "wait_for=<" in repr(task)
        ACTIONS[ending](future)
        await asyncio.wait([task])
        found.append(outcome(task.result))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", TASKS)
async def test_a_task_that_awaits_it_is_cancelled(kind: str) -> None:
    found = []
    for make in BOTH:
        future = make()
        task = TASKS[kind](awaited(future))
        await turns()
        task.cancel("enough")
        await asyncio.wait([task])
        found.append((task.cancelled(), future.cancelled(), outcome(future.result)))
    assert found[0] == found[1]
    assert found[0][0]


class Thrown(Exception):
    """By a test."""


class Watched:
    """Passes on what a task does with a coroutine, and keeps a list of it."""

    def __init__(self, inner: Coroutine[Any, Any, object]) -> None:
        self.inner = inner
        self.seen: list[object] = []

    def __await__(self) -> Watched:
        return self

    def __next__(self) -> object:
        self.seen.append("go on")
        return self.inner.send(None)

    def throw(self, *thrown: Any) -> object:
        self.seen.append(repr(thrown[0]))
        return self.inner.throw(*thrown)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("ending", ["set a result", "set an exception", "cancel"])
async def test_a_task_throws_what_is_no_result(kind: str, ending: str) -> None:
    """What stands between a task and what it waits for hears of a cancellation."""
    found = []
    for make in BOTH:
        future = make()
        watched = Watched(awaited(future))
        task = TASKS[kind](awaited(watched))
        await turns()
        ACTIONS[ending](future)
        await asyncio.wait([task])
        found.append((watched.seen, outcome(task.result)))
    assert found[0] == found[1]


async def test_a_message_may_come_while_it_is_found_that_another_task_waits() -> None:
    side = Side(compiled=True)
    side.call("receive")
    await turns()
    message = Message(OpCode.SIGNAL)

    def deliver(frame: FrameType, event: str, _: object) -> None:
        """As a signal handler would, when ``Mailbox.arrival`` begins."""
        if event == "call" and frame.f_code.co_name == "arrival":
            sys.setprofile(None)
            side.channel._mailbox.deliver([message])

    before = sys.getprofile()
    sys.setprofile(deliver)
    try:
        assert await side.channel.receive() is message
    finally:
        sys.setprofile(before)
    await side.end()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("begun", [True, False])
async def test_what_is_thrown_in_keeps_its_traceback(begun: bool) -> None:
    try:
        raise Thrown
    except Thrown as error:
        place = error.__traceback__
    side = Side(compiled=True)
    made: Any = side.channel.request()
    if begun:
        made.send(None)
    with pytest.raises(Thrown) as caught:
        made.throw(Thrown, Thrown("again"), place)
    last = caught.tb
    while last.tb_next is not None:
        last = last.tb_next
    assert last is place
    await side.end()


@pytest.mark.parametrize("compiled", [True, False])
async def test_anyio_lets_a_task_have_what_has_arrived(compiled: bool) -> None:
    side = Side(compiled=compiled)
    scope = anyio.CancelScope()

    async def asking() -> bytes | None:
        with scope:
            return bytes((await side.channel.request()).body)
        return None

    task = asyncio.create_task(asking())
    await turns()
    side.answer(
        0, OpCode.RESPONSE, b"answer"
    )  # in a task, so the other one goes on in a later turn
    scope.cancel()
    assert await task == b"answer"
    await side.end()


@pytest.mark.parametrize("make", BOTH)
async def test_anyio_tells_that_a_task_is_cancelled(make: Make) -> None:
    task = asyncio.create_task(awaited(make()))
    await turns()
    (info,) = [one for one in anyio.get_running_tasks() if one.id == id(task)]
    assert not info.has_pending_cancellation()
    task.cancel()
    assert info.has_pending_cancellation()
    await asyncio.wait([task])


async def test_it_is_of_its_loop() -> None:
    future = made_by_mailbox()
    assert future._loop is asyncio.get_running_loop()
    assert asyncio.isfuture(future)

    def run() -> None:
        asyncio.run(awaited(future))

    with pytest.raises(RuntimeError, match="attached to a different loop"):
        await asyncio.to_thread(run)


async def test_a_cycle_is_collected() -> None:
    class Callback:
        def __init__(self, future: Any) -> None:
            self.future = future

        def __call__(self, _: object) -> None:
            raise AssertionError

    future = made_by_mailbox()
    callback = Callback(future)
    future.add_done_callback(callback)
    gone = weakref.ref(callback)
    del future, callback
    gc.collect()
    assert gone() is None


async def test_repr() -> None:
    future = made_by_mailbox()
    assert repr(future) == "<Waiter pending>"
    future.cancel()
    assert repr(future) == "<Waiter cancelled>"

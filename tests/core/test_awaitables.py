"""What a channel's methods return is awaited, cancelled and inspected as coroutines are."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import itertools
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.core.talking import BASE, Side, framed, turns
from tests.core.waiting import AT_ONCE, METHODS, WAYS
from tofu_aio import Channel, OpCode
from tofu_aio.protocol.message import Message, next_message_id

Moment = Callable[[Side, str, Callable[[Any], Any]], Any]


@pytest.fixture(params=[True, False], ids=["debug", "no debug"])
async def debug(request: pytest.FixtureRequest) -> None:
    """In debug mode other objects hold the messages that wait."""
    asyncio.get_running_loop().set_debug(request.param)


@pytest.fixture(autouse=True)
def higher_ids() -> None:
    """Ids that are drawn are told from lengths."""
    while next_message_id() < 200:
        pass


async def outcome_of(side: Side, task: asyncio.Future[Any]) -> object:
    """What came of it."""
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Message):
        side.messages.append(result)
        return side._seen([result])
    if isinstance(result, BaseExceptionGroup):
        return [await outcome_of(side, _failed(error)) for error in result.exceptions]
    if isinstance(result, BaseException):
        return (
            type(result),
            side._text(result),
            type(result.__cause__),
            result.__suppress_context__,
            result.__traceback__ is not None,
        )
    return result


def _failed(error: BaseException) -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


async def at_once(side: Side, name: str, way: Callable[[Any], Any]) -> object:
    """It need not wait."""
    METHODS[name].lets_go(side)
    return await outcome_of(side, asyncio.ensure_future(way(METHODS[name].call(side))))


async def later(side: Side, name: str, way: Callable[[Any], Any]) -> object:
    """It waits."""
    METHODS[name].holds_up(side)
    task = asyncio.create_task(way(METHODS[name].call(side)))
    await turns()
    assert not task.done()
    METHODS[name].lets_go(side)
    if name == "request behind others":
        await turns()
        METHODS["request"].lets_go(side)
    return await outcome_of(side, task)


async def cancelled(side: Side, name: str, way: Callable[[Any], Any]) -> object:
    """It is cancelled while it waits; then comes what it has waited for."""
    METHODS[name].holds_up(side)
    task = asyncio.create_task(way(METHODS[name].call(side)))
    await turns()
    pending = side.channel._dispatcher.pending
    requests = list(pending.requests) if pending is not None else []
    task.cancel("enough")
    outcome = await outcome_of(side, task)
    METHODS[name].lets_go(side)
    for request in requests:
        side.feed(framed(OpCode.RESPONSE, request), buffered=False)
    return outcome


async def cancelled_when_woken(side: Side, name: str, way: Callable[[Any], Any]) -> object:
    """It is cancelled in the turn in which its wait has ended."""
    METHODS[name].holds_up(side)
    task = asyncio.create_task(way(METHODS[name].call(side)))
    await turns()
    METHODS[name].lets_go(side)
    task.cancel()
    return await outcome_of(side, task)


async def lost(side: Side, name: str, way: Callable[[Any], Any]) -> object:
    """The connection is lost while it waits."""
    METHODS[name].holds_up(side)
    task = asyncio.create_task(way(METHODS[name].call(side)))
    await turns()
    side.transport.lose(ConnectionResetError("by the test"))
    return await outcome_of(side, task)


async def ended(side: Side, name: str, way: Callable[[Any], Any]) -> object:
    """The peer says Bye while it waits."""
    METHODS[name].holds_up(side)
    task = asyncio.create_task(way(METHODS[name].call(side)))
    await turns()
    side.feed(framed(5, BASE), buffered=False)
    await turns()
    if not task.done():
        METHODS[name].lets_go(side)
    return await outcome_of(side, task)


MOMENTS: list[Moment] = [at_once, later, cancelled, cancelled_when_woken, lost, ended]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", METHODS)
async def test_it_is_awaited_as_a_coroutine_is(moment: Moment, name: str, debug: None) -> None:
    if moment is at_once and name not in AT_ONCE:
        pytest.skip("this always waits")
    for way, wait in WAYS.items():
        found = []
        for compiled in (True, False):
            side = Side(compiled=compiled)
            try:
                outcome = await moment(side, name, wait)
                await turns()
                found.append((outcome, side.seen()))
            finally:
                await side.end()
        assert found[0] == found[1], f"by {way}"


@pytest.mark.parametrize("name", METHODS)
async def test_a_task_is_cancelled_before_its_first_step(name: str) -> None:
    found = []
    for compiled in (True, False):
        side = Side(compiled=compiled)
        METHODS[name].holds_up(side)
        task = asyncio.create_task(METHODS[name].call(side))
        task.cancel("at once")
        found.append((await outcome_of(side, task), side.seen()))
        await side.end()
    assert found[0] == found[1]


# --- step by step -----------------------------------------------------------------------------


class Stop(Exception):
    """Thrown in."""


def _throw_two(made: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return made.throw(Stop, "text")


def _throw_value(made: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return made.throw(Stop, Stop("value"), None)


STEPS: dict[str, Callable[[Any], Any]] = {
    "send": lambda made: made.send(None),
    "send a value": lambda made: made.send(5),
    "throw": lambda made: made.throw(Stop("thrown")),
    "throw a class": lambda made: made.throw(Stop),
    "throw two": _throw_two,
    "throw a value": _throw_value,
    "cancel": lambda made: made.throw(asyncio.CancelledError()),
    "close": lambda made: made.close(),
    "next": lambda made: next(made.__await__()),
    "__next__": lambda made: made.__await__().__next__(),
}


def value_of(side: Side, error: StopIteration) -> object:
    """What it carries. It may be an object that is used again, so nothing of the last is left."""
    value: Any = error.value
    assert error.args == (() if value is None else (value,))
    assert not vars(error)
    assert (error.__cause__, error.__context__) == (None, None)
    error.anything = 3  # type: ignore[attr-defined]
    error.add_note("seen")
    error.__cause__ = error.__context__ = Stop()
    return side._seen([value]) if isinstance(value, Message) else value


def results_of(side: Side, name: str, steps: tuple[str, ...]) -> Iterator[object]:
    """What comes of each step."""
    METHODS[name].holds_up(side)
    made = METHODS[name].call(side)
    for step in steps:
        if step == "let go":
            METHODS[name].lets_go(side)
            continue
        try:
            result = STEPS[step](made)
        except BaseException as error:
            if isinstance(error, StopIteration):  # perhaps of a class that is made in less time
                yield (step, "over", value_of(side, error))
            else:
                yield (step, type(error), side._text(error))
        else:
            yield (step, "waits" if asyncio.isfuture(result) else result)
    made.close()


@pytest.mark.parametrize("name", METHODS)
async def test_it_goes_step_by_step_as_a_coroutine(name: str) -> None:
    asyncio.get_running_loop().set_debug(False)
    every = ["let go", *STEPS]
    pairs = list(itertools.product(every, repeat=2))
    for steps in (*pairs, *(("send", *pair) for pair in pairs)):
        if name == "request behind others" and "let go" in steps:
            continue  # it would wait again, for a response
        found = []
        for compiled in (True, False):
            side = Side(compiled=compiled)
            found.append((list(results_of(side, name, steps)), side.seen()))
            side.connection.decoder.close()
            side.gate.close()
        assert found[0] == found[1], steps
    await turns()


WRONG: Any = 5
FAILING: dict[str, Callable[[Channel], Any]] = {
    "request": lambda channel: channel.request(b"", WRONG),
    "a request's body": lambda channel: channel.request(WRONG),
    "reply": lambda channel: channel.reply(Message(OpCode.REQUEST, b"", None, 3), b"", WRONG),
    "reply to none": lambda channel: channel.reply(WRONG),
    "signal": lambda channel: channel.signal(b"", WRONG),
    "send": lambda channel: channel.send(WRONG),
}


@pytest.mark.parametrize("name", FAILING)
async def test_what_has_failed_is_over(name: str) -> None:
    found = []
    for compiled in (True, False):
        side = Side(compiled=compiled)
        made = FAILING[name](side.channel)
        outcomes = []
        for _ in range(2):
            try:
                await made
            except Exception as error:
                outcomes.append((type(error), str(error), error.__suppress_context__))
        found.append(outcomes)
        await side.end()
    assert found[0] == found[1]
    assert len(found[0]) == 2


# --- what it looks like -----------------------------------------------------------------------


def first_line(warning: object) -> object:
    """What it says, without where the coroutine was made: only Python's own know that."""
    return type(warning), str(warning).partition("\n")[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("action", ["default", "error"])
async def test_one_that_is_never_awaited_is_warned_of(
    name: str, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    unraisable: list[object] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda what: unraisable.append(first_line(what.exc_value))
    )
    for compiled in (True, False):
        side = Side(compiled=compiled)
        unraisable.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            METHODS[name].call(side)
            gc.collect()
        heard = [first_line(one.message) for one in caught]
        found.append((heard, [*unraisable], side.seen()))
        await side.end()
    assert found[0] == found[1]
    assert len(found[0][0]) + len(found[0][1]) == 1


@pytest.mark.parametrize("name", ["receive", "__anext__", "request", "reply", "signal", "send"])
def test_a_method_looks_like_a_coroutine_function(name: str) -> None:
    method: Any = getattr(Channel, name)
    assert asyncio.iscoroutinefunction(method) if sys.version_info < (3, 14) else True
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(method)
    assert inspect.signature(method) == inspect.signature(method.__wrapped__)
    assert method.__doc__ == method.__wrapped__.__doc__
    assert method.__doc__
    assert (method.__name__, method.__qualname__) == (name, f"Channel.{name}")
    assert method.__module__ == "tofu_aio.messaging.channel"


@pytest.mark.parametrize("name", METHODS)
async def test_it_looks_like_a_coroutine(name: str) -> None:
    side = Side(compiled=True)
    METHODS[name].holds_up(side)
    made = METHODS[name].call(side)
    assert asyncio.iscoroutine(made)
    assert inspect.isawaitable(made)
    assert isinstance(made, Coroutine)
    assert not asyncio.isfuture(made)
    function = name.partition(" ")[0]
    method = f"Channel.{function}"
    assert (made.__qualname__, made.__name__) == (method, function)
    assert repr(made).startswith(f"<coroutine object {method} at 0x")
    assert (made.cr_suspended, made.cr_running) == (False, False)
    task = asyncio.create_task(made)
    await turns()
    assert made.cr_suspended
    assert made.cr_await is not None
    assert inspect.getcoroutinestate(made) == inspect.CORO_SUSPENDED
    assert f"{method}()" in repr(task)
    written = io.StringIO()
    task.print_stack(file=written)
    assert written.getvalue()
    assert isinstance(task.get_stack(), list)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert inspect.getcoroutinestate(made) == inspect.CORO_CLOSED
    task.print_stack(file=written)
    await side.end()


async def test_anext_waits_and_ends() -> None:
    for compiled in (True, False):
        side = Side(compiled=compiled)
        channel = side.channel
        METHODS["receive"].lets_go(side)
        assert (await anext(channel)).body == b"ask"
        METHODS["receive"].lets_go(side)
        assert (await anext(channel, None)).body == b"ask"
        for make in (anext, lambda one: anext(one, None)):
            made = make(channel)
            task = asyncio.create_task(WAYS["await"](made))
            await turns()
            METHODS["receive"].lets_go(side)
            assert (await task).body == b"ask"
        side.feed(framed(5, BASE), buffered=False)
        assert await anext(channel, "the end") == "the end"
        with pytest.raises(StopAsyncIteration):
            await anext(channel)
        assert [message async for message in channel] == []
        await side.end()


async def test_a_subclass_may_override_its_methods() -> None:
    class Loud(Channel):
        async def __anext__(self) -> Message:
            message = await super().__anext__()
            message.body += b"!"
            return message

    class Quiet(Channel):
        pass

    for kind, body in ((Loud, b"ask!"), (Quiet, b"ask")):
        side = Side(compiled=True)
        side.channel.__class__ = kind
        METHODS["receive"].lets_go(side)
        async for message in side.channel:
            assert message.body == body
            break
        await side.end()


async def test_an_error_tells_where_it_was_raised() -> None:
    side = Side(compiled=True)
    METHODS["receive"].call(side).close()
    with pytest.raises(TypeError) as caught:
        await side.channel.signal("text")  # type: ignore[arg-type]
    places = [entry.name for entry in caught.traceback]
    assert places[0] == "test_an_error_tells_where_it_was_raised"
    assert places[-1] == "checked_body"
    await side.end()

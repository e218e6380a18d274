"""A channel's methods are found, called, named, copied and replaced as functions of a class are."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import sys
import typing
from types import MethodType, NoneType
from typing import Any
from unittest import mock

import pytest

from tests.core.talking import BASE, Side, framed, turns
from tofu_aio import Channel, Message, OpCode, Status
from tofu_aio.protocol.message import next_message_id

NAMES = ("__anext__", "receive", "reply", "request", "send", "signal")
RESULTS = dict(zip(NAMES, [Message, Message, NoneType, Message, NoneType, NoneType], strict=True))


@pytest.fixture(autouse=True)
def higher_ids() -> None:
    """Ids that are drawn are told from lengths."""
    while next_message_id() < 200:
        pass


def asked(number: int = 5) -> Message:
    """A request to answer."""
    return Message(OpCode.REQUEST, b"ask", None, BASE + number)


# --- what they say of themselves --------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_its_hints_are_those_of_the_function(name: str) -> None:
    method: Any = getattr(Channel, name)
    hints = typing.get_type_hints(method)
    assert hints == typing.get_type_hints(method.__wrapped__)
    assert hints["return"] is RESULTS[name]
    assert hints.keys() == inspect.signature(method).parameters.keys() - {"self"} | {"return"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_by_reference(name: str, protocol: int) -> None:
    method: Any = getattr(Channel, name)
    assert pickle.loads(pickle.dumps(method, protocol)) is method
    assert copy.copy(method) is copy.deepcopy(method) is method


@pytest.mark.parametrize("name", NAMES)
async def test_a_bound_one_is_a_method(name: str, side: Side) -> None:
    bound: Any = getattr(side.channel, name)
    assert type(bound) is MethodType
    assert bound.__self__ is side.channel
    assert bound.__func__ is getattr(type(side.channel), name)
    assert "self" not in inspect.signature(bound).parameters
    assert inspect.isroutine(bound.__func__)
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(bound)
        assert inspect.iscoroutinefunction(functools.partial(bound, 1))


async def test_a_mock_of_a_channel_is_awaited() -> None:
    channel = mock.create_autospec(Channel, instance=True)
    channel.request.return_value = asked()
    assert await channel.request(b"ask") is channel.request.return_value
    await channel.send(asked())
    channel.request.assert_awaited_once_with(b"ask")
    for name in NAMES[1:]:
        assert getattr(channel, name).await_count == (name in {"request", "send"})


# --- how they are called ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [5, asked(), Channel])
def test_another_self_is_refused(name: str, wrong: object) -> None:
    arguments = [asked()] * (name in {"reply", "send"})
    with pytest.raises(TypeError, match="'self' has incorrect type"):
        getattr(Channel, name)(wrong, *arguments)


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("receive", (1,), {}),
    ("receive", (), {"timeout": 1}),
    ("reply", (), {}),
    ("reply", (asked(), b"", None, Status.SUCCESS), {}),
    ("request", (b"", None, 1), {}),
    ("send", (), {}),
    ("send", (asked(), 1), {}),
    ("signal", (b"",), {"body": b""}),
]


@pytest.mark.parametrize(("name", "arguments", "options"), WRONG)
async def test_wrong_arguments_are_refused_at_once(
    name: str, arguments: tuple[Any, ...], options: dict[str, Any], side: Side
) -> None:
    with pytest.raises(TypeError, match="argument"):
        getattr(side.channel, name)(*arguments, **options)
    with pytest.raises(TypeError, match="argument"):
        getattr(type(side.channel), name)(side.channel, *arguments, **options)
    with pytest.raises(TypeError, match="argument"):
        getattr(type(side.channel), name)()  # not even self


RIGHT: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("reply", (), {"request": asked(1), "body": b"x", "headers": {"a": "1"}, "more": True}),
    ("reply", (asked(2),), {"status": Status.PROCESSING_FAILED}),
    ("reply", (asked(3), b"x", {"a": "1"}), {}),
    ("send", (), {"item": asked(5)}),
    ("signal", (), {"headers": {"a": "1"}, "message_id": BASE}),
    ("signal", (b"x", {"a": "1"}), {}),
    ("request", (), {"headers": {"a": "1"}, "body": b"x"}),
    ("request", (b"x",), {"timeout": None}),
]


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize(("name", "arguments", "options"), RIGHT)
async def test_arguments_are_taken_in_every_way(
    name: str, arguments: tuple[Any, ...], options: dict[str, Any], bound: bool
) -> None:
    found: list[Any] = []
    for compiled in (True, False):
        side = Side(compiled=compiled)
        method = getattr(side.channel if bound else type(side.channel), name)
        first = [] if bound else [side.channel]
        for call, before in ((functools.partial(method, *first), []), (method, first)):
            own, named = copy.deepcopy((arguments, options))  # a request is answered once
            side.tasks.append(asyncio.create_task(side._result(call, *before, *own, **named)))
            await turns()
        found.append(side.seen())
        assert len(found[-1]["frames"]) == 2
        await side.end()
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["body", "headers", "status"])
async def test_a_message_without_an_attribute_is_not_sent(name: str, side: Side) -> None:
    message = Message(OpCode.SIGNAL, b"body")
    delattr(message, name)
    with pytest.raises((AttributeError, TypeError)):
        await side.channel.send(message)
    with pytest.raises((AttributeError, TypeError)):
        side.channel.post(message)
    assert not list(side._frames())


# --- how they are replaced --------------------------------------------------------------------


async def test_a_subclass_calls_those_that_it_replaces(side: Side) -> None:
    kind: Any = type(side.channel)

    class Louder(kind):  # type: ignore[misc]  # the class of either core is only known here
        async def reply(self, request: Message, body: bytes, **options: Any) -> None:
            await super().reply(request, body + b"!", **options)

        async def __anext__(self) -> Message:
            message: Message = await super().__anext__()
            message.body += b"?"
            return message

    side.channel.__class__ = Louder
    for _ in range(30):  # so that the interpreter has looked them up before
        side.feed(framed(OpCode.REQUEST, BASE, b"ask"), buffered=True)
        async for message in side.channel:
            await side.channel.reply(message, message.body, status=Status.PROCESSING_FAILED)
            break
        await side.channel.signal(b"not replaced")
        message.release()
    frames: Any = side._frames()
    assert [frame[-1] for frame in frames] == [b"ask?!", b"not replaced"] * 30
    assert type(side.channel).signal is kind.signal


async def test_iterating_finds_one_that_was_replaced(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def following(channel: Channel) -> str:
        return "replaced"

    kind = type(side.channel)
    for replaced in (False, True, False):
        with monkeypatch.context() as patched:
            if replaced:
                patched.setattr(kind, "__anext__", following)
            side.feed(framed(OpCode.REQUEST, BASE, b"ask"), buffered=True)
            found: Any = await anext(side.channel)
            assert (found == "replaced") is replaced
            side.feed(framed(OpCode.REQUEST, BASE, b"ask"), buffered=True)
            async for found in side.channel:
                assert (found == "replaced") is replaced
                break

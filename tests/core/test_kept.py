"""What the compiled core keeps for the next use, and what may happen while it works on it."""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from typing import Any

import pytest

from tests.core.talking import Headers, Side, framed
from tofu_aio import Message, OpCode, core


@pytest.mark.parametrize("act", ["close", "send", "throw"])
@pytest.mark.parametrize("method", ["reply", "signal", "request"])
async def test_a_call_that_runs_is_not_closed_sent_to_or_thrown_into(method: str, act: str) -> None:
    side = Side(compiled=True)
    arguments = [Message(OpCode.REQUEST, message_id=5)] if method == "reply" else []

    def again() -> None:
        with pytest.raises(ValueError, match="coroutine already executing"):
            getattr(call, act)(*{"close": (), "send": (None,), "throw": (OSError(),)}[act])

    call: Any = getattr(side.channel, method)(*arguments, b"body", Headers(again))
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert b"body" in b"".join([*side.transport.written, *side.connection.queue.frames])
    task.cancel()
    await asyncio.wait([task])


async def test_a_message_that_waits_is_garbage_even_after_a_freeze() -> None:
    for _ in range(20):  # until lists are kept
        side = Side(compiled=True)
        side.channel._mailbox._make = core.Inbox
        receiving = asyncio.create_task(side.channel.receive())
        await asyncio.sleep(0)
        side.feed(framed(OpCode.SIGNAL, 7, b"taken"), False)
        await receiving
    del receiving
    frozen = gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    try:
        side = Side(compiled=True)
        side.channel._mailbox._make = core.Inbox  # debug mode has another one
        side.feed(framed(OpCode.SIGNAL, 7, b"not taken"), False)
        (message,) = side.channel._mailbox.items
        holders = [item for item in gc.get_objects() if type(item) is list and message in item]
        assert holders, "the list of what waits cannot be found, so its messages never end"
    finally:
        gc.unfreeze()
        if frozen:  # as it was
            gc.collect()
            gc.freeze()


async def test_what_a_finalizer_delivers_meanwhile_is_not_lost() -> None:
    side = Side(compiled=True)
    mailbox = side.channel._mailbox

    class Received(list[int]):
        """A queue that another message reaches first."""

        def __init__(self, items: list[int]) -> None:
            super().__init__(items)
            mailbox._make = type(mailbox.items)  # only this once
            mailbox.deliver([0])

    mailbox._make = Received
    mailbox.deliver([1, 2])
    assert sorted(mailbox.items) == [0, 1, 2]


def result_of_a_call(side: Side) -> StopIteration:
    """What carries it, as only C and debuggers see it."""
    side.feed(framed(OpCode.SIGNAL, 7, b"one"), False)
    call: Any = side.channel.receive()
    try:
        next(call)
    except StopIteration as result:
        return result
    raise AssertionError("it waits")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python takes results without an exception")
async def test_a_result_is_used_again_as_if_it_were_new() -> None:
    side = Side(compiled=True)
    result = result_of_a_call(side)
    kind = type(result)
    assert kind is not StopIteration
    strange = type("Strange", (kind,), {})  # of a debugger, perhaps
    for make in (strange, partial(kind, "argument"), kind):
        odd: Any = make()
        odd.__suppress_context__ = True
        odd.__traceback__ = None
        del odd
        result = result_of_a_call(side)
        assert (type(result), result.__suppress_context__) == (kind, False)
        assert BaseException.args.__get__(result) == (), "not those of the one before"
        assert result.value.body == b"one"
        del result


async def test_a_call_that_ends_with_what_it_holds_was_awaited() -> None:
    side = Side(compiled=True)
    side.connection.pause_writing()

    class Holding(Message):
        """Holds more calls than are kept."""

        calls: list[Any]

    message = Holding(OpCode.SIGNAL)
    message.calls = [side.channel.receive() for _ in range(300)]
    for call in message.calls:
        call.close()
    sending: Any = side.channel.send(message)
    sending.send(None)
    del message, call
    sending.close()
    del sending  # a warning would be an error


async def test_a_frame_that_cannot_be_made_leaves_nothing() -> None:
    side = Side(compiled=True)
    queue = side.connection.queue
    queue.enqueue(OpCode.SIGNAL, 5, body=b"first")
    before = b"".join(queue.frames)
    wrong: Any = None
    queue.number = wrong
    with pytest.raises(TypeError):
        queue.enqueue(OpCode.SIGNAL, 6, body=b"second")
    assert b"".join(queue.frames) == before
    queue.number = 9
    queue.drop()


async def test_a_piece_of_frames_that_somebody_holds_does_not_grow() -> None:
    side = Side(compiled=True)
    queue = side.connection.queue
    queue.enqueue(OpCode.SIGNAL, 5, body=b"first")
    (held,) = queue.frames
    copy = bytes(bytearray(held))
    for message_id in range(6, 40):
        queue.enqueue(OpCode.SIGNAL, message_id, body=b"more")
    assert held == copy
    assert b"".join(queue.frames).startswith(held)
    queue.drop()

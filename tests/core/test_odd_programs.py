"""What no sensible program does to the compiled core, and what must not harm it."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sysconfig
from typing import Any

import pytest

from tests.core.talking import Headers, Side, framed
from tofu_aio import Channel, Message, OpCode, core
from tofu_aio.protocol.binary_header import HEADER_SIZE


@pytest.mark.parametrize("what", ["delete", "replace"])
async def test_an_id_whose_truth_changes_the_message(side: Side, what: str) -> None:
    message = Message(OpCode.SIGNAL, b"body")

    class Odd:
        def __bool__(self) -> bool:
            if what == "delete":
                del message.headers
            else:
                message.body = b"other"
            return False

    odd: Any = Odd()
    message.message_id = odd
    await side.channel.send(message)
    frames: Any = list(side._frames())
    assert len(frames) == 1


async def test_a_call_that_is_made_by_hand_is_over() -> None:
    real: Any = Side(compiled=True).channel.receive()
    call = type(real)()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)
    call.close()
    real.close()


async def test_a_call_may_be_stepped_again_while_it_ends() -> None:
    """By a finalizer of its channel, of which it has the last reference."""
    ends: list[RuntimeError] = []
    calls: list[Any] = []

    class Watched(Channel):
        def __del__(self) -> None:
            try:
                calls[0].send(None)
            except RuntimeError as error:
                ends.append(error)

    side = Side(compiled=True)
    channel = Watched(side.connection, lambda _: None, lambda _: None)
    channel._mailbox._make = core.Inbox
    calls.append(channel.receive())
    waiter = calls[0].send(None)
    waiter._asyncio_future_blocking = False
    message = Message(OpCode.SIGNAL)
    channel._mailbox.deliver([message])
    owner: Any = channel._dispatcher
    owner._channel = side.connection.sink = None
    del channel, owner
    with pytest.raises(StopIteration) as ended:
        calls[0].send(None)
    assert ended.value.value is message
    assert len(ends) == 1


@pytest.mark.parametrize("method", ["reply", "signal", "request"])
async def test_headers_that_fill_the_queue_make_their_sender_wait(side: Side, method: str) -> None:
    side.transport.take(False)
    side.feed(framed(OpCode.REQUEST, 1 << 41, b"?"), False)
    arguments = [await side.channel.receive()] if method == "reply" else []

    def fill() -> None:
        for _ in range(3):
            side.channel._queue.enqueue(OpCode.SIGNAL, 0, b"", bytes(30_000), 0, True)

    before = side.channel._queue.sent
    task = asyncio.create_task(getattr(side.channel, method)(*arguments, b"body", Headers(fill)))
    await asyncio.sleep(0)
    assert side.channel._queue.sent == before + 3, "only what fills it"
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="without the GIL Python itself crashes when memory is short",
)
@pytest.mark.parametrize("size", [100, 1100, 1400])  # none is written to the transport yet
async def test_short_of_memory_a_frame_is_queued_as_a_whole_or_not_at_all(
    side: Side, size: int
) -> None:
    limits: Any = pytest.importorskip("_testcapi", reason="this Python cannot fail to allocate")
    queue = side.channel._queue
    missed = 0
    for allocation in range(1, 160):
        queue.drop()
        queue.enqueue_header(OpCode.SIGNAL)  # the lists of frames get to odd lengths
        calls: list[Any] = [side.channel.signal(bytes(size)) for _ in range(20)]
        sent = 0
        limits.set_nomemory(allocation, allocation + 1)
        try:
            for call in calls:
                try:
                    call.send(None)
                except StopIteration:
                    sent += 1
                except MemoryError:
                    missed += 1
        finally:
            limits.remove_mem_hooks()
        assert not side.transport.written
        wire = b"".join(queue.frames)
        frames, rest = divmod(len(wire) - HEADER_SIZE, HEADER_SIZE + size)
        assert rest == 0, "whole frames"
        assert frames >= sent
    queue.drop()
    assert missed


async def test_a_result_looks_like_any_other() -> None:
    side = Side(compiled=True)
    side.feed(framed(OpCode.SIGNAL, 7, b"one"), False)
    call: Any = side.channel.receive()
    with pytest.raises(StopIteration) as raised:
        next(call)
    result = raised.value
    message = result.value
    assert repr(result) == f"StopIteration({message!r})"
    assert str(result) == str(message)
    assert copy.copy(result).value is message
    result.__traceback__ = None
    assert pickle.loads(pickle.dumps(result)).value.body == b"one"

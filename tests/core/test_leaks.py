"""Nothing compiled keeps a reference too many, or gives one back too often, on any path."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.core.talking import BASE, Side, framed, turns
from tests.core.test_awaitables import FAILING
from tests.core.waiting import METHODS
from tofu_aio.core import Inbox, counter
from tofu_aio.messaging.channel import Channel
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.connection.send_queue import SendQueue
from tofu_aio.messaging.delivery.dispatcher import Dispatcher
from tofu_aio.messaging.delivery.mailbox import NO_ITEMS, Mailbox
from tofu_aio.messaging.delivery.pending_requests import PendingRequests
from tofu_aio.protocol.account import NOTHING_TAKEN, Account
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.errors import ChannelEnded
from tofu_aio.protocol.exemptions import ASK_RESPONSES, Exemptions
from tofu_aio.protocol.lifecycle import VERDICTS, State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import MORE_BIT, OpCode
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import STATUSES, Status
from tofu_aio.protocol.text_headers import EMPTY_HEADERS, TextHeaders

SHARED: Final[tuple[Any, ...]] = (
    *(EMPTY_HEADERS, NO_ITEMS, NOTHING_TAKEN, ASK_RESPONSES, VERDICTS, STATUSES, *STATUSES[:9]),
    *(Account, Channel, Connection, Decoder, Dispatcher, Exemptions, Mailbox, Message, Pool),
    *(PendingRequests, SendQueue, TextHeaders, Inbox, ChannelEnded, asyncio.CancelledError),
    *(*State, *VERDICTS[State.OPEN], None, True, False, (), b"", StopIteration, TypeError),
)
ROUNDS = 100


def decode() -> None:
    """Frames of every kind, whole and in pieces, with and without permits."""
    pool = Pool(2, lambda: None, unit=40)
    for data in (
        framed(0, 1, b"x") * 5,
        framed(1, 2) + framed(0, 3, b"long" * 20),
        framed(2, 4) + framed(0, 0),
        framed(4, 4),
        framed(0, 5)[:-3] + b"",
        b"\0\x09\0\0\0\0\0\0\0\0\0\5\0\4\0\0a:1\n" + framed(0, 6),
        b"\0\x09\0\0\0\0\0\0\0\0\0\5\0\5\0\1a:1\r\nx" + framed(0, 6),
    ):
        for chunk in (data, memoryview(data)):
            decoder = Decoder(pool, State.OPEN, 7)
            decoder.exempt = Exemptions(posted={2}, parts={5: None})
            batch = decoder.feed(chunk, 3)
            batch += decoder.more(2)
            batch += decoder.resume(2, 0)
            for message in batch:
                message.message_id = None  # type: ignore[assignment]
                message.release()
                message.release()
            decoder.feed(framed(0, 5)[:20])
            decoder.close()
    with contextlib.suppress(TypeError):
        Decoder(pool, State.OPEN, 7).feed("text")  # type: ignore[arg-type]
    with contextlib.suppress(TypeError):
        Decoder(pool, State.OPEN, 7).feed()  # type: ignore[call-arg]


def count() -> None:
    """The inbox, the counter and messages themselves."""
    inbox = Inbox([1, 2])
    inbox.extend((3, object()))
    for _ in range(6):
        with contextlib.suppress(IndexError):
            inbox.append(inbox.popleft())
            inbox.popleft()
            inbox.rotate(1)
            del inbox[0]
    for wrong in (inbox.popleft, lambda: inbox[0], lambda: inbox.remove(3)):
        with contextlib.suppress(IndexError, ValueError):
            wrong()
    inbox.clear()
    number = counter(1)
    number.pop()
    number.extend((None, None))
    assert list(number) == [None, None]
    number.clear()
    with contextlib.suppress(IndexError):
        number.pop()
    message = Message(OpCode.REQUEST, b"body", {"a": "1"})
    message.message_id = object()  # type: ignore[assignment]
    message.body = [message]  # type: ignore[assignment]
    with contextlib.suppress(TypeError):
        message._proto = "text"  # type: ignore[assignment]


async def receive() -> None:
    """What a connection receives goes to all who wait."""
    side = Side(compiled=True)
    side.feed(framed(0, BASE) * 3, buffered=True)
    for call in (("call", "receive"), ("call", "__anext__"), ("call", "request", b"x")):
        side.call(*call[1:])
    await turns(2)
    side.answer(0, OpCode.RESPONSE, b"answer")
    side.call("request", b"x")
    side.post(OpCode.REQUEST, BASE)
    await turns(2)
    side.answer(0, OpCode.RESPONSE | MORE_BIT, b"part")
    side.feed(framed(1, BASE) + framed(1, 77) + framed(0, BASE, bytes(20_000)), buffered=False)
    side.reply(0, b"answer", {})
    side.reply(0, b"answer", {"status": Status(3)})
    await turns(2)
    side.feed(framed(5, BASE), buffered=False)
    await turns(2)
    await side.end()


async def call() -> None:
    """Each method: at once, later, cancelled at every point, failing, and never awaited."""
    for name, method in METHODS.items():
        side = Side(compiled=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            method.call(side)
        method.call(side).close()
        with contextlib.suppress(ValueError):
            method.call(side).throw(ValueError("thrown"))
        method.holds_up(side)
        for when in range(4):
            task = asyncio.create_task(method.call(side))
            await turns(when)
            if when == 3:
                method.lets_go(side)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if name != "request behind others":
            task = asyncio.create_task(method.call(side))
            await turns(2)
            method.lets_go(side)
            await task
        await side.end()


async def fail() -> None:
    """Each method with what is wrong, and once nothing can be sent or received any more."""
    side = Side(compiled=True)
    for over in (False, True):
        for wrong in FAILING.values():
            made = wrong(side.channel)
            for _ in range(2):
                with contextlib.suppress(Exception):
                    await made
        for arguments in (("text",), (0, -1), (0, 0, b"", b"", 1 << 70), (256,), (0, 1.0)):
            with contextlib.suppress(Exception):
                side.connection.queue.enqueue(*arguments)
        if not over:
            side.transport.lose(None)
            await turns()
    for name in ("receive", "__anext__"):
        with contextlib.suppress(Exception, StopAsyncIteration):
            await getattr(side.channel, name)()
    await side.end()


async def _decode() -> None:
    decode()


async def _count() -> None:
    count()


WORK: dict[str, Callable[[], Any]] = {
    "decode": _decode,
    "count": _count,
    "receive": receive,
    "call": call,
    "fail": fail,
}


@pytest.mark.parametrize("name", WORK)
def test_no_reference_is_left_or_lost(name: str) -> None:
    work = WORK[name]

    async def measured() -> tuple[list[int], int]:
        for _ in range(ROUNDS):
            await work()
        for _ in range(3):
            gc.collect()
        return [sys.getrefcount(shared) for shared in SHARED], sys.getallocatedblocks()

    async def measured_often() -> list[tuple[list[int], int]]:
        await measured()
        return [await measured() for _ in range(4)]

    with asyncio.Runner(debug=False) as runner:  # one, since each leaves something behind
        found = runner.run(measured_often())
    changes = {
        repr(shared)[:60]: [counts[place] for counts, _ in found]
        for place, shared in enumerate(SHARED)
        # What others keep or drop now and then is less than what one leak in each round makes.
        if min(abs(later[0][place] - earlier[0][place]) for earlier, later in pairwise(found))
        >= ROUNDS // 2
    }
    assert not changes
    blocks = [blocks for _, blocks in found]
    # What was measured takes memory as well: a number for each object.
    assert min(b - a for a, b in pairwise(blocks)) < len(SHARED) + ROUNDS // 2, blocks

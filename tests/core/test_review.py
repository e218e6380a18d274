"""Where the compiled core could differ from plain Python, or crash."""

from __future__ import annotations

import asyncio
import inspect
import random
import subprocess
import sys
import tracemalloc
import typing
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import tofu_aio as tofu
from tests.core.talking import Headers
from tests.messaging.peers import Pair
from tofu_aio import Message, OpCode, core


@pytest.fixture
async def ends() -> AsyncIterator[Pair]:
    """Both ends of a channel."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        async with await group.listen("tcp://127.0.0.1:0") as listener:
            client, server = await asyncio.gather(
                group.connect(listener.address), listener.accept()
            )
        yield Pair(client, server)


# --- what is sent -------------------------------------------------------------------------


async def test_headers_that_are_too_long_are_refused_by_every_way_to_send(ends: Pair) -> None:
    headers = tofu.TextHeaders.decode(b"name:" + bytes(70_000).replace(b"\0", b"x") + b"\r\n")
    answered = asyncio.create_task(ends.client.request(b"asked"))
    asked = await ends.server.receive()
    for attempt in (
        ends.client.send(Message(OpCode.SIGNAL, b"", headers)),
        ends.client.signal(b"", headers),
        ends.client.request(b"", headers),
        ends.server.reply(asked, b"", headers),
    ):
        with pytest.raises(tofu.InvalidHeadersLen, match="70007 bytes"):
            await attempt
    with pytest.raises(tofu.InvalidHeadersLen, match="70007 bytes"):
        ends.client.post(Message(OpCode.SIGNAL, b"", headers))
    await ends.server.reply(asked, b"still")
    assert (await answered).body == b"still"


async def test_nothing_follows_a_bye_that_was_sent_while_headers_were_encoded(ends: Pair) -> None:
    headers = Headers(lambda: ends.client.post(Message(OpCode.BYE_REQUEST)))
    with pytest.raises(tofu.ChannelClosed, match="REQUEST cannot follow it"):
        await ends.client.request(b"late", headers)
    with pytest.raises(tofu.ChannelEnded):
        await ends.server.receive()


async def test_no_reply_follows_a_bye_that_was_sent_while_headers_were_encoded(ends: Pair) -> None:
    asking = asyncio.create_task(ends.client.request(b"asked"))
    asked = await ends.server.receive()
    headers = Headers(lambda: ends.server.post(Message(OpCode.BYE_REQUEST)))
    with pytest.raises(tofu.ChannelClosed, match="RESPONSE cannot follow it"):
        await ends.server.reply(asked, b"late", headers)
    with pytest.raises(tofu.PeerDisconnected):
        await asking


# --- the queue of received messages -------------------------------------------------------


def test_an_inbox_has_the_items_that_a_deque_has() -> None:
    """Whatever is done to it: the list below it does not check an index."""
    choose = random.Random(5)
    inbox, expected = core.Inbox(range(5)), deque(range(5))
    for step in range(3000):
        size = len(expected)
        match choose.randrange(7):
            case 0:
                inbox.append(step)
                expected.append(step)
            case 1:
                inbox.extend([step] * 3)
                expected.extend([step] * 3)
            case 2:
                turned = choose.choice([-1, -1, -1, 0, 1, 3, -size])
                inbox.rotate(turned)
                expected.rotate(turned)
            case 3 | 4 if size:
                assert inbox.popleft() == expected.popleft()
            case 5 if size:
                index = choose.choice([0, 0, choose.randrange(-size, size)])
                assert inbox[index] == expected[index]
                del inbox[index]
                del expected[index]
        assert list(inbox) == list(expected)
        assert len(inbox) == len(expected)


@pytest.mark.parametrize("index", [0, -1, 3, -4, sys.maxsize, -sys.maxsize])
def test_an_item_that_is_not_there_is_an_error(index: int) -> None:
    inbox = core.Inbox()
    for _ in range(2):
        if not -len(inbox) <= index < len(inbox):
            with pytest.raises(IndexError):
                inbox[index]
            with pytest.raises(IndexError):
                del inbox[index]
        inbox.extend([1, 2, 3])


def test_an_inbox_is_turned_round_without_copying_it_at_each_step() -> None:
    """A mailbox is, when a peer cancels requests. Copies are seen by the memory that they take."""
    copies = 0
    tracemalloc.start()
    try:
        inbox = core.Inbox(range(20_000))
        for item in range(20_000):
            assert inbox[0] == item
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            inbox.rotate(-1)
            copies += tracemalloc.get_traced_memory()[1] - before > 100_000
    finally:
        tracemalloc.stop()
    assert copies < 10
    assert list(inbox) == list(range(20_000))


# --- messages -----------------------------------------------------------------------------


def test_a_message_that_is_none_is_an_error() -> None:
    for function in (Message.release, tofu.Channel.send, tofu.Channel.receive):
        with pytest.raises((AttributeError, TypeError)):
            function(None)  # type: ignore[arg-type]


def test_a_long_chain_of_messages_can_be_dropped() -> None:
    """In a process of its own, which would crash."""
    program = """
from tofu_aio import Message, OpCode
for kind in (Message, type("Sub", (Message,), {})):
    chain = None
    for _ in range(200_000):
        message = kind(OpCode.SIGNAL)
        message.body, chain = chain, message
    del message, chain
print("dropped", Message(OpCode.SIGNAL).body)
"""
    assert run(program) == "dropped b''\n"


def run(program: str) -> str:
    """Run a program in a process of its own, and return all that it prints."""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.stdout + (f"exit {ended.returncode}" if ended.returncode else "")


def test_what_a_permit_raises_when_its_message_is_dropped_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def release(self) -> None:
            raise ValueError("broken")

    reported: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(repr(args.exc_value)))
    message = Message(OpCode.SIGNAL)
    message._permit = Broken()  # type: ignore[assignment]
    del message
    assert reported == ["ValueError('broken')"]


# --- calls --------------------------------------------------------------------------------


async def test_the_state_of_a_call_can_be_inspected(ends: Pair) -> None:
    call = ends.client.receive()
    reference = weakref.ref(call)
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(call) == inspect.CORO_SUSPENDED
    await ends.server.signal()
    await task
    assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED
    assert reference() is call


@pytest.mark.parametrize(
    ("thrown", "raised"),
    [
        (lambda: (ValueError("text"),), "ValueError('text')"),
        (lambda: (ValueError,), "ValueError()"),
        (lambda: (ValueError, "text"), "ValueError('text')"),
        (lambda: (ValueError, ValueError("text")), "ValueError('text')"),
    ],
)
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature:DeprecationWarning")
async def test_what_is_thrown_into_a_call_that_has_not_begun_is_raised(
    ends: Pair, thrown: Callable[[], Any], raised: str
) -> None:
    call = ends.client.receive()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is compared below
        call.throw(*thrown())
    assert repr(caught.value) == raised
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await call


async def test_only_an_exception_can_be_thrown_into_a_call(ends: Pair) -> None:
    with pytest.raises(TypeError):
        ends.client.receive().throw("text")  # type: ignore[call-overload]


async def test_the_warning_about_a_call_says_where_it_was_dropped(ends: Pair) -> None:
    def drop() -> None:
        ends.client.receive()  # type: ignore[unused-coroutine]

    with pytest.warns(RuntimeWarning, match=r"^coroutine 'Channel.receive' was never") as caught:
        drop()
    assert caught[0].filename == __file__
    assert caught[0].lineno == drop.__code__.co_firstlineno + 1


def test_a_call_that_is_kept_until_the_interpreter_exits_warns_of_nothing_else() -> None:
    printed = run("""
import sys
from tofu_aio import Channel
sys.kept = Channel.receive(Channel.__new__(Channel))
""")
    assert "Traceback" not in printed
    assert "rror" not in printed


def test_the_type_hints_are_those_of_the_method() -> None:
    hints = typing.get_type_hints(tofu.Channel.receive)
    assert hints == {"return": Message}


def test_messages_that_are_kept_until_python_exits_are_no_error() -> None:
    """The last collection of garbage comes when the names of modules are gone."""
    program = (
        "import tofu_aio as tofu\n"
        "from tofu_aio.protocol.decoder import Decoder\n"
        "from tofu_aio.protocol.lifecycle import State\n"
        "from tofu_aio.protocol.pool import Pool\n"
        "frame = tofu.Message(tofu.OpCode.SIGNAL, message_id=1).encode()\n"
        "class Kept: pass\n"
        "import abc\n"
        "kept = abc.kept = Kept()\n"  # of a module that outlives the others
        "kept.itself = kept\n"
        "kept.messages = Decoder(Pool(8, print), State.OPEN).feed(frame * 3)\n"
        "for message in kept.messages: message.body = [kept, message]\n"
        "assert tofu.__compiled__\n"
    )
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

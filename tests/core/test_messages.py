"""Messages with compiled fields: as any object of Python, and their permits always come back."""

from __future__ import annotations

import copy
import cProfile
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tofu_aio.protocol.atomic import FREE_THREADED
from tofu_aio.protocol.binary_header import HEADER
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import Status
from tofu_aio.protocol.text_headers import EMPTY_HEADERS

FIELDS = ("_proto", "body", "channel_number", "headers", "message_id", "status")
FRAME = HEADER.pack(9, OpCode.REQUEST, 0, 5, 0, 4) + b"body"


class Received:
    """Received messages, and the pool that their permits are of."""

    def __init__(self, size: int = 8) -> None:
        self.called = 0
        self.pool = Pool(size, self._call)
        self.decoder = Decoder(self.pool, State.OPEN, 7)

    def _call(self) -> None:
        self.called += 1

    def messages(self, count: int = 1) -> list[Message]:
        """So many of them."""
        batch = self.decoder.feed(FRAME * count)
        assert len(batch) == count
        return batch

    @property
    def held(self) -> int:
        """How many hold a permit or the reserve."""
        return self.pool.out + len(self.pool.reserves)


class Loud(Message):
    """A message with a finalizer and attributes of its own."""

    gone: list[object]

    def __del__(self) -> None:
        self.gone.append(self.message_id)
        super().__del__()  # type: ignore[misc]


def test_a_weak_reference_ends_with_its_message() -> None:
    received = Received()
    for _ in range(3):  # messages are kept and used again
        messages = received.messages(2)
        called: list[object] = []
        references = [weakref.ref(message, called.append) for message in messages]
        assert [reference() for reference in references] == messages
        messages.clear()
        assert [reference() for reference in references] == [None, None]
        assert len(called) == 2
        assert not received.held


def test_a_weak_reference_of_one_is_none_to_the_next() -> None:
    received = Received()
    (message,) = received.messages()
    reference, table = weakref.ref(message), weakref.WeakKeyDictionary({message: 1})
    address = id(message)
    del message
    (message,) = received.messages()
    if not FREE_THREADED:  # there none is kept
        assert id(message) == address, "this one should be made of the last one's memory"
    assert reference() is None
    assert not table
    assert weakref.getweakrefcount(message) == 0


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_has_all_but_the_permit(protocol: int) -> None:
    received = Received()
    (message,) = received.messages()
    for same in (
        pickle.loads(pickle.dumps(message, protocol)),
        copy.copy(message),
        copy.deepcopy(message),
    ):
        assert type(same) is Message
        assert same._permit is None
        for name in FIELDS:
            assert getattr(same, name) == getattr(message, name), name
        same.release()
    assert received.held == 1
    message.message_id = -5
    assert pickle.loads(pickle.dumps(message, protocol)).message_id == -5


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "_proto"])
@pytest.mark.parametrize("value", [None, 0, -1, 1 << 70, "text", 1.5, object(), [], Message])
def test_an_attribute_may_be_anything(name: str, value: object) -> None:
    received = Received()
    (message,) = received.messages()
    setattr(message, name, value)
    assert getattr(message, name) is value
    del message
    (message,) = received.messages()
    assert (message.body, message.message_id, message.channel_number) == (b"body", 5, 7)
    assert message.headers is EMPTY_HEADERS
    assert message.status is Status.SUCCESS


def test_others_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        Message(OpCode.REQUEST).anything = 1  # type: ignore[attr-defined]


def test_a_subclass_is_finalized_once() -> None:
    received = Received()
    gone: list[object] = []
    Loud.gone = gone
    for number in range(3):
        message = Loud(OpCode.REQUEST, b"x", message_id=number)
        message._permit = received.messages()[0]._take_permit()
        message.more_of_it = [message]  # type: ignore[attr-defined]  # a cycle
        del message
        gc.collect()
    assert gone == [0, 1, 2]
    assert not received.held


def test_a_subclass_with_slots_keeps_them_apart() -> None:
    class Slotted(Message):
        __slots__ = ("extra",)

    one, other = Slotted(OpCode.REQUEST), Slotted(OpCode.SIGNAL)
    one.extra, other.extra = object(), [one]
    reference = weakref.ref(one)
    del one
    assert reference() is not None
    del other
    assert reference() is None


# --- garbage ----------------------------------------------------------------------------------


def _in_itself(message: Message) -> object:
    message.body = [message]  # type: ignore[assignment]
    return message


def _with_others(message: Message) -> object:
    node = SimpleNamespace(message=message)
    node.node = node
    message.status = node  # type: ignore[assignment]
    return node


@pytest.mark.parametrize("tie", [_in_itself, _with_others])
@pytest.mark.parametrize("with_the_channel", [True, False])
def test_a_permit_comes_back_from_a_cycle(
    tie: Callable[[Message], object], with_the_channel: bool
) -> None:
    for _ in range(3):
        received = Received()
        pool = received.pool
        messages = received.messages(3)
        for message in messages:
            tie(message)
        if with_the_channel:
            messages[0].headers = received.decoder  # type: ignore[assignment]
            messages[1].headers = received  # type: ignore[assignment]
        del message, messages, received
        gc.collect()
        assert (len(pool.free), len(pool.reserves)) == (pool.size, 0)


def test_what_a_finalizer_saves_gives_its_permit_back_once() -> None:
    received = Received()
    first, second = received.messages(2)
    saved: list[Message] = []

    class Saver:
        def __del__(self) -> None:
            saved.append(self.message)

    saver = Saver()
    saver.message = first  # type: ignore[attr-defined]
    saver.saver = saver  # type: ignore[attr-defined]
    first.body = [first, saver]  # type: ignore[assignment,list-item]
    del saver, first
    gc.collect()
    (first,) = saved
    assert received.held == 1, "it was finalized, although it is alive again"
    first.release()
    assert received.held == 1, "it must not give back what the second holds"
    first.body = b""
    saved.clear()
    del first
    assert received.held == 1
    del second
    assert not received.held


def test_a_finalized_one_is_not_used_again() -> None:
    """Python finalizes an object once, so the next message would keep its permit."""
    received = Received()
    for _ in range(100):
        messages = received.messages(4)
        for message in messages:
            message.body = [message]  # type: ignore[assignment]
        del messages, message
        gc.collect()
        assert not received.held
    for message in received.messages(4):
        assert not gc.is_finalized(message)


def test_long_chains_of_messages_end_without_deep_recursion() -> None:
    last: object = None
    for _ in range(200_000):
        message = Message(OpCode.SIGNAL)
        message.body = last  # type: ignore[assignment]
        last = message
    del message, last


def test_a_callback_that_receives_again_finds_all_in_order() -> None:
    """Memory that is about to be used again must not be handed out twice."""
    received = Received()
    more: list[Message] = []

    class Body:
        def __del__(self) -> None:
            more.extend(received.messages())

    messages = received.messages(3)
    for message in messages:
        message.body = Body()  # type: ignore[assignment]
    references = [weakref.ref(one, lambda _: more.extend(received.messages())) for one in messages]
    del message, messages
    assert len(references) == 3
    assert len(more) == len({id(one) for one in more}) == 6
    assert all(one.body == b"body" and one._permit is not None for one in more)
    assert received.held == 6
    more.clear()
    assert not received.held


def test_an_error_while_a_permit_comes_back_is_reported_and_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: unraisable.append(what.exc_type))

    class Broken:
        worth = 1

        def release(self) -> None:
            raise LookupError

    message = Message(OpCode.REQUEST)
    message._permit = Broken()  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        try:
            raise ZeroDivisionError
        finally:
            del message
    assert unraisable == [LookupError]


# --- threads and tools ------------------------------------------------------------------------


def test_threads_drop_what_others_receive() -> None:
    received = Received(64)
    messages: list[list[Message]] = []
    done = threading.Event()

    def drop() -> None:
        while not (done.is_set() and not messages):
            try:
                batch = messages.pop()
            except IndexError:
                continue
            batch.pop().release()
            batch.clear()
            [Message(OpCode.SIGNAL) for _ in range(3)]

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=drop) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(2000):
            batch = received.decoder.feed(FRAME * 4)
            if received.decoder.starved:
                batch += received.decoder.resume()
            if batch:
                messages.append(batch)
                del batch
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(switching)
    received.decoder.close()
    assert not received.held


@contextmanager
def _profiled() -> Iterator[None]:
    with cProfile.Profile():
        yield


@contextmanager
def _hooked(set_hook: Callable[[Any], None]) -> Iterator[None]:
    seen: list[str] = []

    def hook(frame: object, event: str, arg: object) -> Any:
        seen.append(event)
        return hook

    before = sys.getprofile() if set_hook is sys.setprofile else sys.gettrace()
    set_hook(hook)
    try:
        yield
    finally:
        set_hook(before)
    assert seen


@contextmanager
def _monitored() -> Iterator[None]:
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    seen: list[object] = []
    events = monitoring.events
    for tool in (3, 4):
        if monitoring.get_tool(tool) is None:
            break
    else:
        pytest.skip("other tools use sys.monitoring")
    monitoring.use_tool_id(tool, "a test")
    watched = (events.CALL, events.PY_START, events.STOP_ITERATION, events.RAISE)
    try:
        for event in watched:
            monitoring.register_callback(tool, event, lambda *what: seen.append(what))
        monitoring.set_events(tool, sum(watched))
        yield
    finally:
        monitoring.set_events(tool, 0)
        for event in watched:
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    assert seen


TOOLS: dict[str, Any] = {
    "cProfile": _profiled,
    "setprofile": lambda: _hooked(sys.setprofile),
    "settrace": lambda: _hooked(sys.settrace),
}
if sys.version_info >= (3, 12):
    TOOLS["monitoring"] = _monitored


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_channel_works_while_a_tool_watches(tool: str) -> None:
    from tests.core.talking import Side, framed, turns

    side = Side(compiled=True)
    try:
        with TOOLS[tool]():
            side.feed(framed(OpCode.REQUEST, 1 << 40) * 3, buffered=True)
            async for message in side.channel:
                await side.channel.reply(message, b"answer")
                if side.connection.queue.sent == 3:
                    break
            side.call("request", b"ask")
            await turns()
            side.answer(0, OpCode.RESPONSE, b"yes")
            await turns()
        del message
        assert len(side.messages) == 1
    finally:
        await side.end()

"""The message: what it takes, what it refuses, and its permit."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from tofu_aio.protocol import errors
from tofu_aio.protocol.binary_header import (
    HEADER_SIZE,
    MAX_FRAME,
    MAX_MESSAGE_ID,
    MAX_PART,
    BinaryHeader,
)
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message, next_message_id, notification, returned
from tofu_aio.protocol.op_code import MessageType, OpCode, Origin
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import Status
from tofu_aio.protocol.text_headers import TextHeaders


def received(pool: Pool, **fields: Any) -> Message:
    """A message that holds a permit."""
    raw = Message(OpCode.REQUEST, **{"message_id": 1, **fields}).encode()
    (message,) = Decoder(pool, State.OPEN, 7).feed(raw)
    return message


@pytest.fixture
def pool() -> Pool:
    return Pool(2, lambda: None)


def test_a_new_one() -> None:
    message = Message(OpCode.REQUEST)
    assert (message.op_code, message.origin, message.more) == (0, Origin.APPLICATION, False)
    assert (message.status, message.channel_number, message.message_id) == (Status.SUCCESS, 0, 0)
    assert (message.headers, message.body) == ({}, b"")


def test_one_with_everything_encodes_to_the_wire() -> None:
    message = Message(OpCode.RESPONSE, b"body", {"a": "b"}, 0x0102030405060708, more=True)
    message.channel_number = 0x1234
    message.status = Status.PROCESSING_FAILED
    expected = "1234 21 1e 0102030405060708 0005 0004" + b"a:b\r\nbody".hex()
    assert message.encode() == bytes.fromhex(expected)


@pytest.mark.parametrize("op_code", list(OpCode))
def test_only_regular_ones_have_more_parts(op_code: OpCode) -> None:
    if op_code.message_type is MessageType.REGULAR:
        assert Message(op_code, more=True).more
    else:
        with pytest.raises(errors.InvalidMoreUsage, match=op_code.name):
            Message(op_code, more=True)
    assert Message(op_code).op_code is op_code


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"op_code": 10}, errors.InvalidOpCode, "use an OpCode"),
        ({"op_code": -1}, errors.InvalidOpCode, "use an OpCode"),
        ({"op_code": "REQUEST"}, errors.InvalidOpCode, "use an OpCode"),
        ({"message_id": -1}, errors.InvalidMessageId, "-1"),
        ({"message_id": MAX_MESSAGE_ID + 1}, errors.InvalidMessageId, r"from 0 to 2\*\*64 - 1"),
        ({"body": bytes(MAX_PART + 1)}, errors.InvalidBodyLen, "65536.*65535.*stream"),
        ({"body": bytearray(MAX_PART + 1)}, errors.InvalidBodyLen, "65536"),
        ({"body": "text"}, TypeError, "encode it first"),
        ({"body": 7}, TypeError, "int"),
        ({"body": [1]}, TypeError, "list"),
        ({"headers": {"n": "v\r\nm:w"}}, errors.InvalidMessage, "CR or LF"),
        ({"headers": {"n": "v" * MAX_PART}}, errors.InvalidHeadersLen, "65535"),
    ],
)
def test_what_it_refuses(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Message(**{"op_code": OpCode.REQUEST, **arguments})


def test_a_call_without_arguments_fails_without_an_echo_from_the_finalizer() -> None:
    with pytest.raises(TypeError):
        Message()  # type: ignore[call-arg]
    gc.collect()


class Uncopied(bytearray):
    """Says so if it is copied."""

    def __bytes__(self) -> bytes:
        raise AssertionError("copied, to find that it is too long")


def test_what_is_too_long_is_not_copied() -> None:
    with pytest.raises(errors.InvalidBodyLen):
        Message(OpCode.SIGNAL, Uncopied(MAX_PART + 1))


def test_a_view_s_length_is_that_of_its_bytes() -> None:
    with pytest.raises(errors.InvalidBodyLen, match="65536"):
        Message(OpCode.SIGNAL, memoryview(bytes(MAX_PART + 1)).cast("I"))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_bytes(kind: Callable[[bytes], bytes]) -> None:
    message = Message(OpCode.SIGNAL, kind(b"abc"))
    assert type(message.body) is bytes
    assert message.body == b"abc"
    message.body = kind(b"later")
    assert message.encode().endswith(b"later")


def test_a_body_is_the_message_s_own() -> None:
    source = bytearray(b"abc")
    message = Message(OpCode.SIGNAL, source)
    source[:] = b"xyz"
    assert message.body == b"abc"


def test_a_view_of_wide_items_counts_its_bytes() -> None:
    assert Message(OpCode.SIGNAL, memoryview(b"abcdefgh").cast("I")).body == b"abcdefgh"


def test_the_largest_message() -> None:
    message = Message(OpCode.REQUEST, bytes(MAX_PART), {"n": "v" * (MAX_PART - 4)}, MAX_MESSAGE_ID)
    assert len(message.encode()) == MAX_FRAME


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("body", bytes(MAX_PART + 1), errors.InvalidBodyLen),
        ("body", "text", TypeError),
        ("message_id", -1, errors.InvalidMessageId),
        ("message_id", MAX_MESSAGE_ID + 1, errors.InvalidMessageId),
        ("channel_number", -1, errors.InvalidChannelNumber),
        ("channel_number", 65536, errors.InvalidChannelNumber),
    ],
)
def test_what_was_set_later_is_checked_when_it_is_encoded(
    name: str, value: object, error: type[Exception]
) -> None:
    message = Message(OpCode.REQUEST)
    setattr(message, name, value)
    with pytest.raises(error):
        message.encode()


def test_the_permit_comes_back_once(pool: Pool) -> None:
    message = received(pool, body=b"abc", headers={"a": "b"})
    assert len(pool.reserves) == 1
    message.release()
    message.release()
    assert len(pool.reserves) == 0
    assert (message.body, message.headers) == (b"abc", {"a": "b"})
    del message
    gc.collect()
    assert len(pool.reserves) == 0


def test_a_message_that_another_finalizer_saves_gives_its_permit_back_once(pool: Pool) -> None:
    """It is finalized first, as part of the same garbage, and is then alive again."""
    saved: list[Message] = []

    class Saver:
        message: Message
        itself: object

        def __del__(self) -> None:
            saved.append(self.message)

    saver = Saver()
    saver.message, saver.itself = received(pool), saver
    saver.message.body = [saver]  # type: ignore[assignment,list-item]
    del saver
    gc.collect()
    (message,) = saved
    assert len(pool.reserves) == 0
    message.release()  # would give back what another message holds
    assert len(pool.reserves) == 0
    message.body = b""
    saved.clear()


def test_the_permit_comes_back_at_the_end_of_a_with_block(pool: Pool) -> None:
    with received(pool) as message:
        assert len(pool.reserves) == 1
    assert len(pool.reserves) == 0
    with pytest.raises(ZeroDivisionError), message, received(pool):
        _ = 1 / 0
    assert len(pool.reserves) == 0


def test_the_permit_comes_back_when_the_message_is_forgotten(pool: Pool) -> None:
    message = received(pool)
    cycle = [message]
    cycle.append(cycle)  # type: ignore[arg-type]
    del message, cycle
    gc.collect()
    assert len(pool.reserves) == 0


@pytest.mark.parametrize(
    "twin_of", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_is_equal_in_all_but_the_permit(
    pool: Pool, twin_of: Callable[[Message], Message]
) -> None:
    message = received(pool, body=b"abc", headers={"a": "b"}, more=True)
    twin = twin_of(message)
    twin.release()
    assert len(pool.reserves) == 1
    assert twin.encode() == message.encode()
    assert (twin.op_code, twin.more, twin.channel_number) == (OpCode.REQUEST, True, 7)
    message.release()
    del twin, message
    gc.collect()
    assert len(pool.reserves) == 0


def test_a_message_made_here_has_no_permit(pool: Pool) -> None:
    Message(OpCode.REQUEST).release()
    assert len(pool.reserves) == 0


def test_its_repr_says_what_matters(pool: Pool) -> None:
    assert repr(Message(OpCode.SIGNAL)) == "<Message SIGNAL #0 channel=0 body=0 B>"
    message = received(pool, body=b"secret", headers={"a": "b"}, more=True)
    message._proto |= 0x10
    message.status = Status.POOL_EMPTY
    assert repr(message) == (
        "<Message REQUEST #1 channel=7 more from=engine status=pool_empty "
        "headers=[('a', 'b')] body=6 B>"
    )


def test_the_engine_s_own_word() -> None:
    message = notification(Status.POOL_EMPTY, 7)
    assert (message.op_code, message.origin) == (OpCode.SIGNAL, Origin.ENGINE)
    assert (message.status, message.channel_number) == (Status.POOL_EMPTY, 7)


def test_a_message_that_comes_back_is_the_engine_s_and_travels_again_as_the_application_s() -> None:
    message = Message(OpCode.REQUEST, b"abc", {"a": "b"}, 5, more=True)
    assert returned(message, Status.SEND_FAILED, 7) is message
    assert (message.origin, message.status, message.channel_number) == (1, Status.SEND_FAILED, 7)
    assert (message.op_code, message.more, message.message_id) == (OpCode.REQUEST, True, 5)
    assert message.header_as(8, 6) == (8, 0x20, Status.SEND_FAILED, 6, 5, 3)


def test_its_header_is_the_one_it_travels_under() -> None:
    message = Message(OpCode.RESPONSE, b"abc", {"a": "b"}, 5, more=True)
    message.channel_number = 7
    assert message.header_as(7, 5) == BinaryHeader.unpack(message.encode()[:HEADER_SIZE])


def test_headers_given_as_headers_are_not_encoded_again() -> None:
    headers = TextHeaders({"a": "b"})
    assert Message(OpCode.SIGNAL, headers=headers).headers.encode() is headers.encode()


def test_ids_are_unique_whichever_thread_asks() -> None:
    threads, each = 8, 5000
    taken: list[list[int]] = [[] for _ in range(threads)]
    start = threading.Barrier(threads)

    def take(into: list[int]) -> None:
        start.wait()
        into.extend(next_message_id() for _ in range(each))

    workers = [threading.Thread(target=take, args=(into,)) for into in taken]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ids = [message_id for into in taken for message_id in into]
    assert len(set(ids)) == threads * each
    assert min(ids) > 0


# --- attributes that were deleted -------------------------------------------------------------

DELETED = ["body", "channel_number", "headers", "status"]
DELETE: dict[str, Callable[[Any, str], object]] = {
    "del": delattr,
    "object": object.__delattr__,
    "its own": lambda message, name: getattr(Message, name).__delete__(message),
}


@pytest.mark.parametrize("delete", DELETE)
@pytest.mark.parametrize("name", DELETED)
def test_a_deleted_attribute_is_missing(name: str, delete: str, pool: Pool) -> None:
    """None with the compiled core and without the GIL, where no attribute is a member."""
    for _ in range(3):  # the memory of one is used again for the next
        message = received(pool, body=b"body")
        assert getattr(message, name) is not None
        DELETE[delete](message, name)
        assert getattr(message, name, None) is None
        with pytest.raises((AttributeError, TypeError, errors.InvalidChannelNumber)):
            message.encode()
        del message
        assert (len(pool.free), len(pool.reserves)) == (pool.size, 0)
    message = received(pool, body=b"body")
    assert (message.body, message.channel_number, message.headers) == (b"body", 7, {})
    assert message.status is Status.SUCCESS


@pytest.mark.parametrize("name", DELETED)
def test_a_deleted_attribute_can_be_set_again(name: str) -> None:
    message = Message(OpCode.SIGNAL)
    value = getattr(message, name)
    for _ in range(3):
        delattr(message, name)
        setattr(message, name, value)
        assert getattr(message, name) is value


@pytest.mark.parametrize("to", [object, Message])
def test_a_subclass_may_watch_its_attributes(to: Any) -> None:
    seen: list[str] = []

    class Watched(Message):
        def __setattr__(self, name: str, value: object) -> None:
            seen.append(name)
            to.__setattr__(self, name, value)

        def __delattr__(self, name: str) -> None:
            seen.append(f"no {name}")
            to.__delattr__(self, name)

    message = Watched(OpCode.SIGNAL, b"body")
    assert message.body == b"body"
    assert {"body", "headers", "status", "channel_number"} <= set(seen)
    object.__setattr__(message, "body", b"other")
    assert message.body == b"other"
    del message.body
    assert getattr(message, "body", None) is None
    assert seen[-1] == "no body"
    with mock.patch.object(Message, "__setattr__"):
        pass
    del message.headers
    assert getattr(message, "headers", None) is None

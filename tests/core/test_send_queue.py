"""The compiled send queue, and the one in Python: the same frames, counters and errors."""

from __future__ import annotations

import os
from typing import Any, SupportsIndex

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.queueing import Operation, compare
from tofu_aio.protocol.binary_header import MAX_MESSAGE_ID
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import MORE_BIT, ORIGIN_BIT, OpCode
from tofu_aio.protocol.status import Status
from tofu_aio.protocol.text_headers import EMPTY_HEADERS, TextHeaders

EXAMPLES = int(os.environ.get("TOFU_CORE_EXAMPLES", "1500"))


class Bytes(bytes):
    """Not quite bytes."""


class Number(SupportsIndex):
    """Not quite a number."""

    def __index__(self) -> int:
        return 5


class OtherMessage(Message):
    """Not quite a message."""


NUMBER = Number()
BASE = 1 << 40  # no id that is drawn is as high

lengths = st.sampled_from([0, 0, 1, 5, 1023, 1024, 3000, 5000, 16383, 16384, 20000, 65535])
bodies: st.SearchStrategy[Any] = lengths.map(bytes)
odd_bodies: st.SearchStrategy[Any] = st.sampled_from(
    [
        bytes(65536),
        bytearray(b"array"),
        memoryview(b"view"),
        memoryview(b"view of some")[::2],
        memoryview(bytes(70000)),
        Bytes(b"more"),
        Bytes(2000),
        "text",
        None,
        5,
    ]
)
texts: st.SearchStrategy[Any] = st.sampled_from([b"", b"", b"", b"a:1\r\n", bytes(300)])
odd_texts: st.SearchStrategy[Any] = st.sampled_from(
    [bytes(65535), bytes(65536), Bytes(b"a:1\r\n"), bytearray(b"a:1\r\n"), "a:1\r\n", None]
)
protos: st.SearchStrategy[Any] = st.sampled_from([0, 0, 1, 2, 2, MORE_BIT, 1 | MORE_BIT])
odd_protos: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(list(OpCode)),
    st.integers(0, 255),
    st.sampled_from([256, 1 << 32, -1, None, 1.0, "x"]),
)
ids: st.SearchStrategy[Any] = st.sampled_from([0, 0, BASE, BASE + 1, MAX_MESSAGE_ID])
odd_ids: st.SearchStrategy[Any] = st.sampled_from(
    [-1, MAX_MESSAGE_ID + 1, None, "x", 1.0, 0.0, True, False, NUMBER]
)
statuses: st.SearchStrategy[Any] = st.sampled_from([0, 0, 1, 255, Status.SUCCESS, Status(3)])
odd_statuses: st.SearchStrategy[Any] = st.sampled_from(
    [-1, 256, 1 << 32, None, "x", 1.0, True, NUMBER, 1 << 70]
)

enqueues = st.tuples(st.just("enqueue"), protos, ids, texts, bodies, statuses, st.booleans())
odd_enqueues = st.tuples(
    st.just("enqueue"),
    protos | odd_protos,
    ids | odd_ids,
    texts | odd_texts,
    bodies | odd_bodies,
    statuses | odd_statuses,
    st.booleans(),
)
good_headers = st.sampled_from([EMPTY_HEADERS, TextHeaders({"a": "1"}), TextHeaders({})])
changes = st.fixed_dictionaries(
    {},
    optional={
        "body": bodies,
        "headers": good_headers,
        "message_id": ids,
        "status": st.sampled_from(list(Status)[:4]),
        "_proto": protos | st.sampled_from([ORIGIN_BIT, 0x40]),
    },
)
odd_changes = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from([OtherMessage, None, "text", object()]),
        "body": bodies | odd_bodies,
        "headers": st.sampled_from([EMPTY_HEADERS, {}, {"a": "1"}, None, b"", 5]),
        "message_id": ids | odd_ids,
        "status": statuses | odd_statuses,
        "_proto": protos | st.integers(0, 255),
    },
)
messages = st.tuples(st.just("message"), changes, st.booleans(), st.booleans())
odd_messages = st.tuples(st.just("message"), odd_changes, st.booleans(), st.booleans())
events: st.SearchStrategy[Operation] = st.one_of(
    st.just(("flush",)),
    st.just(("turn",)),
    st.just(("pause",)),
    st.just(("resume",)),
    st.just(("takes",)),
    st.tuples(st.just("portion"), st.booleans()),
    st.just(("drop",)),
    st.just(("heartbeat",)),
)
ends: st.SearchStrategy[Operation] = st.one_of(
    st.just(("closing",)),
    st.just(("lost",)),
    st.tuples(st.just("state"), st.sampled_from(list(State))),
    st.tuples(st.just("ended"), st.booleans()),
)
sending = st.one_of(enqueues, enqueues, messages, events)
any_operation = st.one_of(sending, sending, odd_enqueues, odd_messages)
operations = st.tuples(
    st.lists(any_operation, max_size=12), st.lists(any_operation | ends, max_size=4)
).map(lambda both: [*both[0], *both[1]])


@settings(max_examples=EXAMPLES)
@given(operations=operations)
def test_both_queue_the_same(operations: list[Operation]) -> None:
    compare(operations)


@settings(max_examples=EXAMPLES // 5)
@given(one=odd_enqueues | odd_messages)
def test_both_refuse_the_same(one: Operation) -> None:
    compare([one, ("flush",)])

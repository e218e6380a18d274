"""The compiled channel, and the one in Python: the same, whatever happens to them."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.talking import BASE, Operation, compare, framed
from tofu_aio.protocol.message import Message, next_message_id
from tofu_aio.protocol.op_code import MORE_BIT, OpCode
from tofu_aio.protocol.status import LEFT, Status
from tofu_aio.protocol.withdrawal import WITHDRAWAL

EXAMPLES = int(os.environ.get("TOFU_CORE_EXAMPLES", "600"))

ids = st.sampled_from([BASE, BASE + 1, BASE + 2])
bodies: st.SearchStrategy[Any] = st.sampled_from([b"", b"x", bytes(2000), bytes(30_000)])
odd_bodies: st.SearchStrategy[Any] = st.sampled_from(
    [bytearray(b"array"), memoryview(b"view"), "text", None, bytes(70_000)]
)
headers: st.SearchStrategy[Any] = st.sampled_from([None, None, {"a": "1"}, [("a", "1")], {}, 5])
protos = st.sampled_from([0, 0, 1, 2, 2, MORE_BIT, 1 | MORE_BIT, 2 | MORE_BIT])
frames = st.one_of(
    st.builds(framed, protos, ids, bodies),
    st.builds(framed, protos, ids, bodies),
    st.builds(framed, st.just(WITHDRAWAL), ids, status=st.just(LEFT)),
    st.builds(framed, st.just(2), st.just(0)),
)
calls: st.SearchStrategy[Operation] = st.one_of(
    st.just(("call", "receive")),
    st.just(("call", "__anext__")),
    st.tuples(st.just("call"), st.just("request"), bodies, headers),
    st.tuples(st.just("call"), st.just("request"), bodies | odd_bodies, headers),
    st.tuples(st.just("call"), st.just("signal"), bodies | odd_bodies, headers),
    st.tuples(
        st.just("reply"),
        st.integers(0, 9),
        bodies | odd_bodies,
        st.fixed_dictionaries(
            {},
            optional={
                "headers": headers,
                "status": st.sampled_from([Status.SUCCESS, Status(3), 3, None, "x"]),
                "more": st.booleans(),
            },
        ),
    ),
    st.tuples(
        st.just("send_on"),
        st.integers(0, 9),
        st.fixed_dictionaries(
            {},
            optional={
                "message_id": st.sampled_from([0, BASE, -1, 1 << 64, None, 1.0]),
                "status": st.sampled_from([Status(3), 3, None]),
                "body": bodies | odd_bodies,
            },
        ),
    ),
    st.builds(
        lambda item: ("call", "send", item),
        st.sampled_from([None, "text", Message(OpCode.SIGNAL, b"x"), Message(OpCode.BYE_SIGNAL)]),
    ),
    st.builds(lambda one: ("call", "reply", one), st.sampled_from([None, 5])),
)
events: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(
        st.just("feed"), st.lists(frames, min_size=1, max_size=5).map(b"".join), st.booleans()
    ),
    st.tuples(
        st.just("feed"), st.lists(frames, min_size=1, max_size=5).map(b"".join), st.booleans()
    ),
    st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from([1, 1, 1 | MORE_BIT]), bodies),
    st.tuples(st.just("answer"), st.integers(0, 5), st.just(1), bodies),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("takes"), st.booleans()),
    st.tuples(st.just("post"), st.sampled_from(list(OpCode)[:3]), ids),
)
ends: st.SearchStrategy[Operation] = st.one_of(
    st.builds(lambda one: ("feed", framed(5, one), True), ids),  # Bye
    st.builds(lambda one: ("feed", framed(6, one), True), ids),
    st.builds(lambda: ("feed", framed(4, 0), False)),
    st.tuples(st.just("lose"), st.sampled_from(["", "reset by the test"])),
    st.builds(lambda: ("post", OpCode.BYE_REQUEST, BASE)),
)
begun: list[Operation] = [("call", "receive"), ("feed", framed(0, BASE), True), ("turn", 2)]
operations = st.tuples(
    st.sampled_from([[], begun, begun * 2]),
    st.lists(calls | events, max_size=15),
    st.lists(calls | events | ends, max_size=6),
).map(lambda all_: [*all_[0], *all_[1], *all_[2]])


@settings(max_examples=EXAMPLES)
@given(operations=operations, size=st.sampled_from([1, 2, 4, 40]))
def test_both_do_the_same(operations: list[Operation], size: int) -> None:
    while next_message_id() < 200:  # so that ids of frames and lengths are told from drawn ones
        pass
    with asyncio.Runner(debug=False) as runner:
        runner.run(compare(operations, size))


def test_both_answer_once() -> None:
    answered: list[Operation] = [*begun, ("reply", 0, b"answer", {}), ("turn", 2)]
    with asyncio.Runner(debug=False) as runner:
        runner.run(compare([*answered, ("reply", 0, b"again", {}), ("turn", 2)], 4))

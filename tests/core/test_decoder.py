"""The compiled decoder, and the one in Python: the same, whatever comes in whatever pieces."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.decoding import STATES, Operation, Setting, compare
from tofu_aio.protocol.binary_header import HEADER, MAX_MESSAGE_ID
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.op_code import MORE_BIT, ORIGIN_BIT, OpCode
from tofu_aio.protocol.status import LEFT
from tofu_aio.protocol.withdrawal import WITHDRAWAL

EXAMPLES = int(os.environ.get("TOFU_CORE_EXAMPLES", "1500"))
REQUEST, RESPONSE, SIGNAL = int(OpCode.REQUEST), int(OpCode.RESPONSE), int(OpCode.SIGNAL)

ids = st.sampled_from([1, 2, 3, 4, 5, 1 << 40, MAX_MESSAGE_ID])
any_ids = ids | st.just(0)
protos = st.sampled_from(
    [REQUEST] * 6
    + [RESPONSE] * 4
    + [SIGNAL] * 4
    + [SIGNAL | MORE_BIT, REQUEST | MORE_BIT, RESPONSE | MORE_BIT, WITHDRAWAL]
    + [REQUEST | ORIGIN_BIT, 0xC0, RESPONSE | 0x80]
)
odd_protos = protos | st.sampled_from([int(code) for code in OpCode]) | st.integers(0, 255)
bodies = st.sampled_from([0, 0, 1, 5, 24, 25, 60, 200]).map(bytes)
headers = st.sampled_from(
    [b""] * 8 + [b"a:1\r\n", b"a:1\r\nb:2\r\n", b"bad", b"a:1\r\n\r\n", b"\xff:1\r\n"]
)


def framed(
    proto: int, message_id: int, body: bytes = b"", text: bytes = b"", status: int = 0
) -> bytes:
    header = HEADER.pack(9, proto, status, message_id, len(text), len(body))
    return header + text + body


plain_frames = st.builds(framed, protos, ids, bodies)
frames = st.one_of(
    plain_frames,
    plain_frames,
    st.builds(framed, protos, ids, bodies, headers, st.integers(0, 255)),
    st.builds(framed, odd_protos, any_ids, bodies, headers, st.sampled_from([0, 1, LEFT, 255])),
    st.builds(framed, st.just(SIGNAL), st.just(0)),  # a heartbeat
    st.builds(framed, st.just(WITHDRAWAL), any_ids, status=st.integers(0, 40)),
)
streams = st.one_of(
    st.lists(frames, min_size=1, max_size=6).map(b"".join),
    st.lists(plain_frames, min_size=1, max_size=40).map(b"".join),
    st.binary(max_size=40),
)
portions = st.sampled_from([0, 1, 2, 3, 4, 32])
some = st.sampled_from([1, 2, 3, 4, 32])
"""As ``feed`` is given: at least one."""
feeds = st.tuples(st.just("feed"), streams, st.integers(0, 3), st.none() | some)


@st.composite
def split_feeds(draw: st.DrawFn) -> list[Operation]:
    """One stream in pieces, and what makes the decoder go on after each of them."""
    data = draw(st.lists(frames, min_size=1, max_size=8).map(b"".join))
    cuts = sorted(draw(st.sets(st.integers(1, max(len(data) - 1, 1)), max_size=6)))
    operations: list[Operation] = []
    for start, stop in pairwise([0, *cuts, len(data)]):
        operations.append(
            ("feed", data[start:stop], draw(st.integers(0, 3)), draw(st.none() | some))
        )
        operations += draw(st.lists(steps, max_size=2))
    return operations


steps: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("more"), portions),
    st.tuples(st.just("resume"), portions, st.integers(0, 5)),
    st.tuples(st.just("release"), st.integers(0, 99)),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.just("lend"), st.integers(0, 6)),
    st.tuples(st.just("take")),
    st.tuples(st.just("give")),
    st.tuples(st.just("feed_neighbour"), st.lists(plain_frames, max_size=4).map(b"".join)),
    st.tuples(st.just("wait")),
    st.tuples(st.just("suspend")),
    st.tuples(st.just("ask"), st.integers(0, 2), ids),
    st.tuples(st.just("part"), ids, st.sampled_from([0, 10, 100])),
    st.tuples(st.just("sort")),
    st.tuples(st.just("strays")),
)
rare: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("answer"), st.integers(0, len(STATES) - 1), any_ids),
    st.tuples(st.just("stop_counting")),
    st.tuples(st.just("close")),
)
operations: Any = st.lists(
    st.one_of(
        feeds.map(lambda one: [one]),
        split_feeds(),
        steps.map(lambda one: [one]),
        steps.map(lambda one: [one]),
    ),
    max_size=12,
).map(lambda groups: [one for group in groups for one in group])
any_operations = st.lists(
    st.one_of(operations, operations, rare.map(lambda one: [one])), max_size=4
).map(lambda groups: [one for group in groups for one in group])
settings_of_decoders = st.builds(
    Setting,
    pool=st.sampled_from([None, 1, 2, 3, 4, 8, 40]),
    unit=st.sampled_from([16, 40, 41, 1 << 62]),
    share=st.sampled_from([1.0, 0.5, 0.25, 0.01]),
    state=st.sampled_from([State.OPEN] * 12 + list(STATES)),
    number=st.sampled_from([7, 7, 7, None]),
    exempt=st.sampled_from([True, True, True, False]),
    shared=st.booleans(),
    heartbeats=st.sampled_from([None, False, True]),
    withdrawals=st.booleans(),
)


@settings(max_examples=EXAMPLES)
@given(setting=settings_of_decoders, operations=any_operations)
@example(setting=Setting(pool=1), operations=[("feed", framed(REQUEST, 1) * 3, 0, None)])
def test_both_decode_the_same(setting: Setting, operations: list[Operation]) -> None:
    compare(setting, operations)


@settings(max_examples=EXAMPLES // 5)
@given(setting=settings_of_decoders, data=streams, portion=some, kind=st.integers(0, 3))
def test_both_decode_the_same_portion_by_portion(
    setting: Setting, data: bytes, portion: int, kind: int
) -> None:
    step: list[Operation] = [("drop", 0), ("more", portion), ("resume", portion, 1), ("sort",)]
    compare(setting, [("feed", data, kind, portion), *(step * 6)])


answers = st.builds(framed, st.sampled_from([0, 1, 1, 2, 1 | MORE_BIT]), st.integers(1, 4), bodies)


@settings(max_examples=EXAMPLES // 2)
@given(
    pool=st.integers(1, 5),
    unit=st.sampled_from([40, 1 << 62]),
    share=st.sampled_from([1.0, 0.5]),
    asked=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=4),
    chunks=st.lists(st.lists(answers, min_size=1, max_size=9).map(b"".join), max_size=3),
    portion=some,
)
def test_both_take_the_same_for_responses(
    pool: int,
    unit: int,
    share: float,
    asked: list[tuple[int, int]],
    chunks: list[bytes],
    portion: int,
) -> None:
    done: list[Operation] = [("ask", *one) for one in asked]
    for chunk in chunks:
        done += [("feed", chunk, 0, portion), ("more", portion), ("drop", 0)]
        done += [("resume", portion, 1), ("more", portion), ("drop", 1), ("drop", 1)]
    compare(Setting(pool=pool, unit=unit, share=share), done)


def test_both_lend_the_same() -> None:
    lent: list[Operation] = [("feed", framed(REQUEST, 1), 0, None), ("lend", 6)] * 7
    compare(Setting(pool=2), [*lent, ("release", 6), *([("drop", 0)] * 7)])

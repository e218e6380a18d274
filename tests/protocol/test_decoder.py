"""Bytes in, messages out: the same whatever the splits, and never more than there are permits."""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.growth import growth
from tofu_aio.protocol import errors
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.binary_header import HEADER, MAX_MESSAGE_ID, MAX_PART
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import SEND, State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode, Origin
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import Status

VECTORS = Path(__file__).parents[1] / "vectors" / "zig_tofu_frames.json"
ZIG_FRAMES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["frames"]


def frame(op_code: int = OpCode.REQUEST, body: bytes = b"", **fields: int) -> bytes:
    """A frame by hand, right unless the fields say otherwise."""
    header = {"channel": 9, "status": 0, "id": 1, "headers_len": 0, "body_len": len(body), **fields}
    channel, status, message_id, headers_len, body_len = header.values()
    return HEADER.pack(channel, op_code, status, message_id, headers_len, body_len) + body


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(at), len(data)]
    return [data[start:stop] for start, stop in pairwise(marks)]


def plain(messages: Iterable[Message]) -> list[tuple[object, ...]]:
    """What the messages say, in a form that compares."""
    return [
        (m.op_code, m.origin, m.more, m.status, m.message_id, m.headers.pairs, m.body)
        for m in messages
    ]


def pool_of(size: int) -> Pool:
    return Pool(size, lambda: None)


def taken(pool: Pool) -> int:
    """How many permits and reserves are in use: one for each short message that is alive."""
    return pool.out + len(pool.reserves)


def holding_one(pool: Pool) -> tuple[Decoder, Message]:
    """A decoder whose reserve is in use, and the message that is alive."""
    decoder = Decoder(pool, State.OPEN)
    (message,) = decoder.feed(frame(body=b"first"))
    assert decoder.account is not None
    assert (decoder.account.held, decoder.account.reserved) == (0, True)
    return decoder, message


class Channel:
    """What the messaging half does with a decoder, and no more."""

    def __init__(self, pool: Pool, state: State = State.OPEN) -> None:
        self.pool = pool
        self.suspended_at: float | None = None
        self.suspended_for = 0.0
        self.suspensions = 0
        self.decoder = Decoder(pool, state, 7)
        self.said: list[tuple[object, ...]] = []
        self.held: list[Message] = []

    def feed(self, data: bytes) -> list[Message]:
        return self._take(self.decoder.feed(data))

    def resume(self, granted: int) -> None:
        self._take(self.decoder.resume(granted=granted))

    @property
    def account(self) -> Account:
        assert self.decoder.account is not None
        return self.decoder.account

    @property
    def needs(self) -> int:
        return self.decoder.needs

    @property
    def over_its_share(self) -> bool:
        return self.account.over_share(self.decoder.needs)

    def reconcile_reading(self) -> None: ...

    def _take(self, batch: list[Message]) -> list[Message]:
        self.said += plain(batch)
        self.held += batch
        if self.decoder.starved and self not in self.pool.waiters:
            self.pool.waiters.append(self)
            if not self.account.reserved:
                self.pool.restored.append(self.account)
        return batch


def serve(pool: Pool) -> None:
    """Let those go on whose reserve came back, and give permits to who has waited longest."""
    while pool.restored:
        account = pool.restored.popleft()
        for waiter in [waiter for waiter in pool.waiters if waiter.account is account]:
            pool.waiters.discard(waiter)
            waiter.resume(0)
    while pool.waiters and pool.waiters.first.needs <= len(pool.free):
        waiter = pool.waiters.popleft()
        waiter.resume(waiter.needs)


# --- the Zig library's frames --------------------------------------------------------------


@pytest.mark.parametrize("vector", ZIG_FRAMES, ids=lambda v: f"{v['from']}-{v['op_code']}")
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_frame_of_the_zig_library(vector: dict[str, Any], bytewise: bool) -> None:
    raw = bytes.fromhex(vector["hex"])
    decoder = Decoder(None, State.OVERHEARD)
    pieces = cut(raw, range(1, len(raw))) if bytewise else [raw]
    (message,) = [message for piece in pieces for message in decoder.feed(piece)]
    assert message.op_code.name == vector["op_code"]
    assert message.origin is Origin.APPLICATION
    assert message.channel_number == vector["channel_number"]
    assert message.more is vector["more"]
    assert message.status == vector["status"]
    assert message.message_id == vector["message_id"]
    assert message.headers.pairs == tuple(map(tuple, vector["text_headers"]))
    assert message.body.hex() == vector["body"]
    assert message.encode() == raw


@pytest.mark.parametrize("vector", ZIG_FRAMES, ids=lambda v: f"{v['from']}-{v['op_code']}")
def test_the_same_message_made_here_has_the_same_bytes(vector: dict[str, Any]) -> None:
    pairs = [tuple(pair) for pair in vector["text_headers"]]
    if any(name == "Job-ID" for name, _ in pairs):
        pairs[-1] = (" Job-ID ", " 12:34 ")  # as the note beside the frame says it was set
    body = bytes.fromhex(vector["body"])
    op_code = OpCode[vector["op_code"]]
    message = Message(op_code, body, pairs, vector["message_id"], vector["more"])
    message.channel_number = vector["channel_number"]
    assert message.encode() == bytes.fromhex(vector["hex"])


# --- splits --------------------------------------------------------------------------------

tokens = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
bodies = st.binary(max_size=40) | st.sampled_from([0, 1, 65519, MAX_PART]).map(bytes)
regulars = st.builds(
    Message,
    st.sampled_from([OpCode.REQUEST, OpCode.RESPONSE, OpCode.SIGNAL]),
    bodies,
    st.lists(st.tuples(tokens, tokens), max_size=2),
    st.integers(1, MAX_MESSAGE_ID),
    st.booleans(),
)
streams = st.lists(regulars, max_size=8).map(
    lambda middle: [
        Message(OpCode.HELLO_RESPONSE, message_id=3),
        *middle,
        Message(OpCode.BYE_REQUEST, message_id=4),
    ]
)


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[list[Message], list[bytes]]:
    """A client's whole life as it may arrive, and the pieces it arrives in."""
    messages = draw(streams)
    data = b"".join(message.encode() for message in messages)
    near = st.integers(0, min(len(data), 200)) | st.integers(0, len(data))
    return messages, cut(data, draw(st.lists(near, max_size=12)))


@given(split_streams())
def test_any_split_gives_the_same_messages(case: tuple[list[Message], list[bytes]]) -> None:
    messages, pieces = case
    decoder = Decoder(None, State.HELLO_SENT, 7)
    got = []
    for piece in pieces:
        got += decoder.feed(piece)
        # Nothing is lost on the way: each byte became a message, or waits.
        assert decoder.offset == sum(len(message.encode()) for message in got)
    assert plain(got) == plain(messages)
    assert {message.channel_number for message in got} == {7}
    assert (decoder.violation, decoder.held, decoder.state) == (None, 0, State.BYE_HEARD)


@given(st.lists(split_streams(), min_size=1, max_size=3), st.integers(1, 4), st.integers(0, 2**32))
def test_a_bounded_pool_delays_messages_and_changes_nothing_else(
    cases: list[tuple[list[Message], list[bytes]]], size: int, seed: int
) -> None:
    pool, random = pool_of(size), Random(seed)
    channels = [Channel(pool, State.HELLO_SENT) for _ in cases]
    arriving = [pieces[::-1] for _, pieces in cases]
    while any(arriving) or pool.waiters:
        for channel, pieces in zip(channels, arriving, strict=True):
            if pieces and random.random() < 0.7:
                waited = bool(pool.waiters)
                had = channel.decoder.promised + (not channel.account.reserved)
                batch = channel.feed(pieces.pop())
                # First come, first served: only a permit from before, or its own reserve, lets
                # one pass who wait.
                assert not waited or sum(m._permit is not None for m in batch) <= had
            random.shuffle(channel.held)
            while channel.held and random.random() < 0.5:
                channel.held.pop().release()
            if random.random() < 0.5:
                serve(pool)
            for each in channels:
                alive = sum(m._permit is not None for m in each.held) + each.decoder.promised
                assert each.account.reserved == (alive > 0)
                assert each.account.held == max(alive - 1, 0)
            assert pool.out == sum(each.account.held for each in channels) <= size
            assert channel.decoder.starved == (channel in pool.waiters)
    for channel, (messages, _) in zip(channels, cases, strict=True):
        assert channel.said == plain(messages)
        assert channel.decoder.violation is None
        for message in channel.held:
            message.release()
    assert (taken(pool), len(pool.free)) == (0, size)


# --- permits -------------------------------------------------------------------------------


def test_the_reserve_or_a_permit_is_taken_when_the_header_is_complete() -> None:
    pool = pool_of(1)
    decoder = Decoder(pool, State.OPEN)
    data = frame(body=b"ab")
    messages = []
    for before in (0, 1):
        for end in range(1, len(data)):
            assert decoder.feed(data[end - 1 : end]) == []
            assert taken(pool) == before + (end >= 16)
        messages += decoder.feed(data[-1:])
        assert (len(pool.reserves), pool.out) == (1, before)
    for message in messages:
        message.release()
    assert taken(pool) == 0


@pytest.mark.parametrize(
    ("state", "op_code"),
    [
        (State.HELLO_AWAITED, OpCode.HELLO_REQUEST),
        (State.HELLO_SENT, OpCode.HELLO_RESPONSE),
        (State.OPEN, OpCode.BYE_REQUEST),
        (State.BYE_SENT, OpCode.BYE_REQUEST),
        (State.BYE_SENT, OpCode.BYE_RESPONSE),
        (State.BYE_CROSSED, OpCode.BYE_RESPONSE),
        (State.BYE_ANSWERED, OpCode.BYE_RESPONSE),
    ],
)
@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("at", [0, 16, 17])
def test_control_needs_no_permit(state: State, op_code: OpCode, free: int, at: int) -> None:
    pool = pool_of(1)
    if not free:
        pool.free.pop()
    pool.waiters.append(Channel(pool))
    decoder = Decoder(pool, state)
    data = frame(op_code, b"body")
    (message,) = decoder.feed(data[:at]) + decoder.feed(data[at:])
    assert message.op_code is op_code
    assert (len(pool.free), len(pool.reserves)) == (free, 0)
    del message
    gc.collect()
    assert (len(pool.free), len(pool.reserves)) == (free, 0)


def test_without_a_permit_it_starves_and_keeps_order_and_bytes() -> None:
    pool = pool_of(1)
    decoder, _kept = holding_one(pool)
    one, two, bye = frame(body=b"1"), frame(body=b"2"), frame(OpCode.BYE_REQUEST)
    before = decoder.offset
    (first,) = decoder.feed(one + two)
    assert decoder.starved
    assert decoder.feed(bye[:5]) == decoder.feed(bye[5:]) == []
    assert (decoder.held, decoder.offset) == (len(two + bye), before + len(one))
    assert decoder.resume() == []
    assert (decoder.starved, decoder.held, pool.out) == (True, len(two + bye), 1)
    first.release()
    second, last = decoder.resume()
    assert (second.body, last.op_code) == (b"2", OpCode.BYE_REQUEST)
    assert (decoder.starved, decoder.held, pool.out) == (False, 0, 1)


class Raced(deque[None]):
    """Permits of which another thread takes all but the first that is asked for."""

    def pop(self) -> None:  # type: ignore[override]  # no index, as the deque it is
        if len(self) == 2:
            self.clear()
        super().pop()


def test_what_another_thread_takes_meanwhile_is_waited_for() -> None:
    """The reserve is there all the same: for the second message, as it was for the first."""
    pool = pool_of(3)
    pool.free = Raced(pool.free)
    decoder = Decoder(pool, State.OPEN)
    got = decoder.feed(b"".join(frame(body=body) for body in (b"1", b"2", b"3", b"4")))
    assert decoder.account is not None
    assert [message.body for message in got] == [b"1", b"2"]
    assert (decoder.needs, decoder.account.held, decoder.account.reserved) == (1, 1, True)
    pool.free = deque([None, None])
    rest = decoder.resume()
    assert [message.body for message in rest] == [b"3", b"4"]
    assert (decoder.starved, decoder.held, decoder.account.held) == (False, 0, 3)


def test_nobody_overtakes_those_who_wait() -> None:
    """But for the reserve, which is in nobody's way."""
    pool = pool_of(2)
    pool.waiters.append(Channel(pool))
    decoder = Decoder(pool, State.OPEN)
    (first,) = decoder.feed(frame(body=b"1") + frame(body=b"2"))
    assert (first.body, decoder.starved, pool.out, len(pool.reserves)) == (b"1", True, 0, 1)


def test_who_resumes_takes_what_it_was_granted_while_others_wait_and_more_when_none_does() -> None:
    pool = pool_of(3)
    pool.waiters.append(Channel(pool))
    decoder, _kept = holding_one(pool)
    decoder.feed(frame() * 4)
    assert decoder.resume() == []
    one = decoder.resume(granted=1)
    assert (len(one), decoder.starved, pool.out) == (1, True, 1)
    pool.waiters.clear()
    rest = decoder.resume()
    assert (len(rest), decoder.starved, pool.out) == (2, True, 3)


def test_who_resumes_with_its_reserve_takes_nothing_else_while_others_wait() -> None:
    pool = pool_of(3)
    pool.waiters.append(Channel(pool))
    decoder, kept = holding_one(pool)
    decoder.feed(frame(body=bytes(5000)) + frame())
    kept.release()
    (long,) = decoder.resume(granted=0)
    assert (len(long.body), decoder.needs, pool.out, len(pool.reserves)) == (5000, 1, 0, 1)


@pytest.mark.parametrize("size", [1, 2])
def test_a_frame_under_way_has_its_permit_and_the_next_one_waits_its_turn(size: int) -> None:
    pool = pool_of(size)
    decoder, _kept = holding_one(pool)
    decoder.feed(frame(body=b"ab")[:17])
    pool.waiters.append(Channel(pool))
    (message,) = decoder.feed(frame(body=b"ab")[17:] + frame())
    assert message.body == b"ab"
    assert (decoder.starved, pool.out) == (True, 1)


def test_the_many_readers_of_one_permit_are_served_in_order() -> None:
    """Each keeps a message, and with it its reserve."""
    pool = pool_of(1)
    pool.free.pop()
    channels = [Channel(pool) for _ in range(3)]
    kept = []
    for channel in channels:
        channel.feed(frame() * 3)
        kept.append(channel.held.pop())
    pool.release()
    serve(pool)
    order = []
    for _ in range(6):
        (holder,) = [channel for channel in channels if channel.held]
        order.append(channels.index(holder))
        holder.held.pop().release()
        serve(pool)
    assert order == [0, 1, 2, 0, 1, 2]


def test_to_resume_without_starving_takes_nothing() -> None:
    pool = pool_of(2)
    decoder = Decoder(pool, State.OPEN)
    decoder.feed(frame(body=b"ab")[:17])
    assert decoder.resume(granted=1) == []
    assert taken(pool) == 1
    (message,) = decoder.feed(b"b")
    message.release()
    assert taken(pool) == 0


@pytest.mark.parametrize("end", [0, 5, 16, 17])
@pytest.mark.parametrize("kept", [0, 1])
def test_close_gives_back_what_a_part_of_a_message_has_and_ends_decoding(
    end: int, kept: int
) -> None:
    """The reserve, or a permit where the reserve is another message's."""
    pool = pool_of(1)
    decoder = Decoder(pool, State.OPEN)
    messages = decoder.feed(frame() * kept)
    decoder.feed(frame(body=b"ab")[:end])
    assert taken(pool) == kept + (end >= 16)
    for _ in range(2):
        decoder.close()
        assert (pool.out, len(pool.reserves), decoder.held) == (0, kept, 0)
    assert decoder.feed(frame(body=b"ab")[end:] + frame()) == []
    assert (taken(pool), decoder.held, decoder.violation) == (kept, 0, None)
    assert len(messages) == kept


def test_close_while_starving_leaves_nothing_to_resume() -> None:
    pool = pool_of(1)
    decoder, kept = holding_one(pool)
    (message,) = decoder.feed(frame() * 2)
    decoder.close()
    message.release()
    kept.release()
    assert (decoder.starved, decoder.held) == (False, 0)
    assert decoder.resume() == []
    assert taken(pool) == 0


def test_after_stop_counting_all_comes_without_permits() -> None:
    pool = pool_of(1)
    decoder = Decoder(pool, State.OPEN)
    data = frame(body=b"ab") + frame() + frame(OpCode.BYE_REQUEST)
    decoder.feed(data[:17])
    decoder.stop_counting()
    assert taken(pool) == 0
    pool.free.clear()
    assert len(decoder.feed(data[17:])) == 3
    assert (len(pool.free), len(pool.reserves)) == (0, 0)
    decoder.close()
    assert (len(pool.free), len(pool.reserves)) == (0, 0)


def test_who_starves_when_counting_stops_can_resume_at_once() -> None:
    pool = pool_of(1)
    decoder, _kept = holding_one(pool)
    (held,) = decoder.feed(frame() + frame(body=b"2") + frame(OpCode.BYE_REQUEST))
    decoder.stop_counting()
    assert [message.op_code for message in decoder.resume()] == [OpCode.REQUEST, OpCode.BYE_REQUEST]
    assert (decoder.starved, pool.out, len(pool.reserves)) == (False, 1, 1)
    assert held.body == b""


# --- what is received ----------------------------------------------------------------------


def test_the_local_number_replaces_the_sender_s() -> None:
    assert Decoder(None, State.OPEN, 7).feed(frame(channel=9))[0].channel_number == 7
    assert Decoder(None, State.OPEN).feed(frame(channel=9))[0].channel_number == 9


def test_internal_bits_are_neither_minded_nor_sent_on() -> None:
    (message,) = Decoder(None, State.OPEN).feed(frame(0xC0 | 0x20 | OpCode.SIGNAL))
    assert (message.op_code, message.more) == (OpCode.SIGNAL, True)
    assert message.encode()[2] == 0x20 | OpCode.SIGNAL


@pytest.mark.parametrize(("byte", "status"), [(0, Status.SUCCESS), (19, 19), (32, 31), (255, 31)])
def test_the_status_is_read(byte: int, status: int) -> None:
    (message,) = Decoder(None, State.OPEN).feed(frame(status=byte))
    assert message.status is Status(status)


@pytest.mark.parametrize(
    ("headers", "body"),
    [(0, 0), (0, 1), (5, 0), (MAX_PART, 0), (0, MAX_PART), (MAX_PART, MAX_PART)],
)
@pytest.mark.parametrize("missing", [0, 1])
def test_sizes_to_the_byte(headers: int, body: int, missing: int) -> None:
    pool = pool_of(2)
    decoder = Decoder(pool, State.OPEN)
    text = b"n:" + b"v" * (headers - 4) + b"\r\n" if headers else b""
    data = frame(body=text + bytes(body), headers_len=headers, body_len=body)
    got = decoder.feed(data[: len(data) - missing])
    assert len(got) == (not missing)
    got += decoder.feed(data[len(data) - missing :] + frame(body=b"next"))
    assert [len(message.headers.encode()) for message in got] == [headers, 0]
    assert [message.body for message in got] == [bytes(body), b"next"]


def test_it_moves_through_a_server_s_life() -> None:
    decoder = Decoder(None, State.HELLO_AWAITED)
    assert decoder.asked_id == 0
    decoder.feed(frame(OpCode.HELLO_REQUEST, id=5))
    assert (decoder.state, decoder.asked_id) == (State.HELLO_HEARD, 5)
    decoder.state = SEND[decoder.state][OpCode.HELLO_RESPONSE]
    assert len(decoder.feed(frame() + frame(OpCode.BYE_REQUEST, id=8))) == 2
    assert (decoder.state, decoder.asked_id) == (State.BYE_HEARD, 8)


@pytest.mark.parametrize("awaited", [0, 6])
def test_an_answer_with_the_awaited_id_is_welcome(awaited: int) -> None:
    decoder = Decoder(None, State.BYE_SENT)
    decoder.awaited_id = awaited
    assert len(decoder.feed(frame(id=1) + frame(OpCode.BYE_RESPONSE, id=6))) == 2
    assert decoder.state is State.CLOSED


# --- violations ----------------------------------------------------------------------------

VIOLATIONS = [
    *[
        (
            State.OPEN,
            frame(op_code),
            errors.InvalidOpCode,
            f"op code {op_code} is unknown; the known ones are 0 to 9",
        )
        for op_code in range(10, 16)
    ],
    (State.OPEN, frame(OpCode.BYE_SIGNAL), errors.InvalidOpCode, "BYE_SIGNAL"),
    (State.OPEN, frame(OpCode.WELCOME_REQUEST), errors.InvalidOpCode, "WELCOME_REQUEST"),
    (State.OPEN, frame(OpCode.WELCOME_RESPONSE), errors.InvalidOpCode, "WELCOME_RESPONSE"),
    (State.OPEN, frame(OpCode.HELLO_REQUEST), errors.InvalidOpCode, "in the state open"),
    (State.OPEN, frame(OpCode.BYE_RESPONSE), errors.InvalidOpCode, "in the state open"),
    (
        State.HELLO_AWAITED,
        frame(),
        errors.InvalidOpCode,
        "REQUEST is not allowed in the state hello_aw",
    ),
    (
        State.HELLO_SENT,
        frame(),
        errors.InvalidOpCode,
        "the peer sent REQUEST before it answered the Hello with HELLO_RESPONSE",
    ),
    (
        State.HELLO_SENT,
        frame(OpCode.BYE_REQUEST),
        errors.InvalidOpCode,
        "sent BYE_REQUEST before",
    ),
    (
        State.HELLO_SENT,
        frame(0x20 | OpCode.HELLO_RESPONSE),
        errors.InvalidMoreUsage,
        "HELLO_RESPONSE has the more bit, which only REQUEST, RESPONSE and SIGNAL may have",
    ),
    (State.BYE_HEARD, frame(), errors.InvalidOpCode, "in the state bye_heard"),
    (State.CLOSED, frame(), errors.InvalidOpCode, "in the state closed"),
    (
        State.OPEN,
        frame(0x20 | OpCode.BYE_REQUEST),
        errors.InvalidMoreUsage,
        "BYE_REQUEST has the more bit",
    ),
    (
        State.OPEN,
        frame(id=0),
        errors.InvalidMessageId,
        "REQUEST has the message id 0, reserved for heartbeats",
    ),
    (
        State.OPEN,
        frame(OpCode.BYE_REQUEST, id=0),
        errors.InvalidMessageId,
        "BYE_REQUEST has the message id 0",
    ),
    (
        State.BYE_SENT,
        frame(OpCode.BYE_RESPONSE, id=5),
        errors.InvalidMessageId,
        "BYE_RESPONSE has the message id 5, but needs 77, the id of its request",
    ),
    (
        State.HELLO_SENT,
        frame(OpCode.HELLO_RESPONSE, id=0),
        errors.InvalidMessageId,
        "message id 0, but needs 77",
    ),
    (State.OPEN, frame(body=b"bad\r\n", headers_len=5, body_len=0), errors.InvalidMessage, "'bad'"),
    (State.OPEN, frame(body=b"n:v\r", headers_len=4, body_len=0), errors.InvalidMessage, "CR LF"),
    (
        State.OPEN,
        frame(OpCode.BYE_REQUEST, body=b"bad\r\n", headers_len=5, body_len=0),
        errors.InvalidMessage,
        "'bad'",
    ),
]


@pytest.mark.parametrize(
    ("state", "bad", "error", "text"), VIOLATIONS, ids=[row[3] for row in VIOLATIONS]
)
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("pieces", ["whole", "halves", "bytes", "starved"])
def test_a_violation_ends_decoding_and_says_where(
    state: State, bad: bytes, error: type[errors.TofuError], text: str, before: int, pieces: str
) -> None:
    pool = pool_of(1 if pieces == "starved" else 4)
    good = frame(body=b"good") * (before if state in {State.OPEN, State.BYE_SENT} else 0)
    data = good + bad + frame(body=b"after") * 2
    channel = Channel(pool, state)
    channel.decoder.awaited_id = 77
    cuts = {"halves": [len(good + bad) - 1], "bytes": range(1, len(data))}
    for piece in cut(data, cuts.get(pieces, [])):
        channel.feed(piece)
    while pool.waiters:
        channel.held.pop().release()
        serve(pool)
    decoder = channel.decoder
    assert type(decoder.violation) is error
    assert str(decoder.violation).startswith(f"at byte {len(good)}: ")
    assert text in str(decoder.violation)
    assert len(channel.said) * len(frame(body=b"good")) == len(good) == decoder.offset
    assert (decoder.starved, decoder.held) == (False, 0)
    first = decoder.violation
    assert decoder.feed(frame() + bad) == []
    assert decoder.violation is first
    for message in channel.held:
        message.release()
    assert taken(pool) == 0


def test_a_response_without_an_id_is_not_compared_with_what_a_bye_awaits() -> None:
    decoder = Decoder(None, State.BYE_SENT)
    decoder.awaited_id = 77
    decoder.feed(frame(OpCode.RESPONSE, id=0))
    assert (
        str(decoder.violation)
        == "at byte 0: RESPONSE has the message id 0, reserved for heartbeats"
    )


def test_a_frame_is_judged_by_its_header_alone() -> None:
    decoder = Decoder(None, State.OPEN)
    decoder.feed(frame(13, body_len=MAX_PART))
    assert isinstance(decoder.violation, errors.InvalidOpCode)


@pytest.mark.parametrize("starved", [False, True])
def test_a_state_that_moves_under_a_frame_costs_no_permit(starved: bool) -> None:
    pool = pool_of(1)
    decoder = Decoder(pool, State.OPEN)
    if starved:
        pool.waiters.append(Channel(pool))
    decoder.feed(frame(body=b"ab")[:17])
    decoder.state = State.CLOSED
    assert decoder.resume() + decoder.feed(b"b") == []
    assert isinstance(decoder.violation, errors.InvalidOpCode)
    assert taken(pool) == 0


alive = [state for state in State if state not in {State.CONNECTING, State.CLOSED}]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid stream with a few bytes changed."""
    data = bytearray(b"".join(message.encode() for message in draw(st.lists(regulars, max_size=4))))
    for _ in range(draw(st.integers(1, 3))):
        if data:
            data[draw(st.integers(0, min(len(data), 300) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(st.binary(max_size=300) | damaged(), st.sampled_from(alive), st.integers(1, 3), st.data())
def test_no_bytes_raise_or_cost_a_permit(
    data: bytes, state: State, size: int, draw: st.DataObject
) -> None:
    pool = pool_of(size)
    channel = Channel(pool, state)
    for piece in cut(data, draw.draw(st.lists(st.integers(0, len(data)), max_size=5))):
        channel.feed(piece)
        serve(pool)
        held = sum(message._permit is not None for message in channel.held)
        assert taken(pool) == held + channel.decoder.promised <= size + 1
        if channel.decoder.violation is not None:
            assert channel.feed(frame() + frame(OpCode.BYE_REQUEST)) == []
            assert (channel.decoder.held, channel.decoder.promised) == (0, 0)
    channel.decoder.close()
    for message in channel.held:
        message.release()
    assert (taken(pool), len(pool.free)) == (0, size)


# --- memory and time -----------------------------------------------------------------------


class Chunk(bytes):
    """Bytes that tell when they are gone."""

    alive = 0

    def __init__(self, data: bytes) -> None:
        Chunk.alive += 1

    def __del__(self) -> None:
        Chunk.alive -= 1


def test_a_small_message_does_not_keep_a_large_chunk_alive() -> None:
    decoder = Decoder(None, State.OPEN)
    large = frame(body=bytes(MAX_PART))
    held = decoder.feed(Chunk(frame(body=b"small") + large + frame(body=b"start")[:18]))
    gc.collect()
    assert held[0].body == b"small"
    assert Chunk.alive == 0
    assert decoder.held == 18


def test_a_long_body_is_copied_once_out_of_a_buffer() -> None:
    buffer = memoryview(bytearray(frame(body=b"x" * MAX_PART)))
    decoder = Decoder(None, State.OPEN)
    tracemalloc.start()
    (message,) = decoder.feed(buffer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message.body == b"x" * MAX_PART
    assert MAX_PART < peak < 1.5 * MAX_PART


def test_a_body_that_comes_in_pieces_becomes_bytes_without_another_copy() -> None:
    decoder = Decoder(None, State.OPEN)
    data = frame(body=b"x" * MAX_PART)
    for piece in cut(data, [5, 100, 40_000]):
        got = decoder.feed(memoryview(piece))
        if decoder.arriving is not None:
            arriving = decoder.arriving
    assert [message.body for message in got] == [b"x" * MAX_PART]
    # The same object each time: it is what the bytes were collected in.
    assert got[0].body is arriving.content()[1]


def test_nothing_is_kept_of_a_buffer() -> None:
    data = frame(body=b"one") + frame(body=b"two") + frame(body=b"three")
    for end in range(len(data) + 1):
        buffer = bytearray(data[:end])
        decoder = Decoder(pool_of(1), State.OPEN)
        got = decoder.feed(memoryview(buffer))
        buffer[:] = bytes(end)
        decoder.stop_counting()
        got += decoder.resume() + decoder.feed(data[end:])
        assert [message.body for message in got] == [b"one", b"two", b"three"]


def test_it_makes_a_portion_at_a_time() -> None:
    pool = pool_of(100)
    decoder = Decoder(pool, State.OPEN)
    got = decoder.feed(frame() * 10, 3)
    sizes = [len(got)]
    while decoder.pending:
        assert taken(pool) == sum(sizes)
        batch = decoder.more(2 * sizes[-1])
        sizes.append(len(batch))
        got += batch
    assert sizes == [3, 6, 1]
    assert (decoder.held, decoder.more(5)) == (0, [])


@pytest.mark.parametrize("on_reserve", [False, True])
def test_a_share_holds_for_long_and_short_messages_together(on_reserve: bool) -> None:
    """A long one, of 30 permits, and as many short ones as the share has left."""
    pool = Pool(64, lambda: None, unit=100, share=0.5)
    decoder = Decoder(pool, State.OPEN)
    _kept = decoder.feed(b"" if on_reserve else frame())
    got = decoder.feed(frame(body=bytes(2984)) + frame() * 100, 40)
    assert decoder.account is not None
    assert (decoder.account.held, decoder.needs) == (32, 1)
    assert len(got) == (33 if on_reserve else 3)


def test_what_comes_while_a_portion_waits_comes_after_it() -> None:
    decoder = Decoder(None, State.OPEN)
    got = decoder.feed(frame(body=b"1") + frame(body=b"2"), 1)
    assert decoder.feed(frame(body=b"3")) == []
    while decoder.pending:
        got += decoder.more(1)
    assert [message.body for message in got] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("how", ["resume", "close"])
def test_a_chunk_that_waits_is_kept_as_it_is_until_it_need_not_be(how: str) -> None:
    pool = pool_of(1)
    decoder, _kept = holding_one(pool)
    (held,) = decoder.feed(Chunk(frame() + frame(body=b"2")))
    assert Chunk.alive == 1
    held.release()
    kept = getattr(decoder, how)()
    gc.collect()
    assert Chunk.alive == 0
    assert kept is None or kept[0].body == b"2"


@pytest.mark.skipif(sys.platform == "win32", reason="its processor time ticks too coarsely")
@pytest.mark.parametrize("permits", [1, None])
def test_a_frame_that_comes_byte_by_byte_costs_time_in_proportion(permits: int | None) -> None:
    def cost(size: int) -> float:
        data = frame(body=bytes(size))
        pieces = cut(data, range(1, len(data)))
        decoder = Decoder(permits and pool_of(permits), State.OPEN)
        start = time.process_time()
        for piece in pieces:
            decoder.feed(piece)
        took = time.process_time() - start
        assert decoder.offset == len(data)
        return took

    # Sixteen times as large: 256 times as long if it were quadratic.
    assert growth(cost, 4095, 65520) < 64

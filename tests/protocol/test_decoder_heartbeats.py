"""Heartbeats in the stream: heard where they may come, never a message, never a permit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.test_decoder import frame, pool_of, taken
from tofu_aio.protocol import errors
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import RECEIVE, SEND, UNDECIDED, State
from tofu_aio.protocol.op_code import MORE_BIT, OpCode
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import Status

BEAT = frame(OpCode.SIGNAL, id=0)


class Hearing(Decoder):
    """A decoder that expects heartbeats, and notes in which state it was at each."""

    def __init__(self, pool: Pool | None, state: State = State.OPEN) -> None:
        super().__init__(pool, state, 7)
        self.heartbeats = False
        self.heard: list[State] = []

    def _beats(self, verdict: State | Status, proto: int, status: int, length: int) -> bool:
        beats = super()._beats(verdict, proto, status, length)
        if beats:
            self.heard.append(self.state)
        return beats


def hearing(pool: Pool | None, state: State = State.OPEN) -> tuple[Decoder, list[State]]:
    """A decoder that expects heartbeats, and in which state it was at each."""
    decoder = Hearing(pool, state)
    return decoder, decoder.heard


@given(kinds=st.lists(st.booleans(), max_size=12), size=st.integers(1, 40), data=st.data())
def test_any_mixture_and_any_split_gives_the_messages_and_the_heartbeats(
    kinds: list[bool], size: int, data: st.DataObject
) -> None:
    body = bytes(data.draw(st.integers(0, 20)))
    stream = b"".join(BEAT if beat else frame(body=body, id=n + 1) for n, beat in enumerate(kinds))
    pool = pool_of(3)
    decoder, heard = hearing(pool)
    ids = []
    for at in range(0, len(stream), size):
        batch = decoder.feed(stream[at : at + size])
        while batch or decoder.starved:
            for message in batch:
                ids.append(message.message_id)
                message.release()
            batch = decoder.resume()
    assert ids == [n + 1 for n, beat in enumerate(kinds) if not beat]
    assert len(heard) == sum(kinds)
    assert (decoder.offset, decoder.held, taken(pool)) == (len(stream), 0, 0)
    assert decoder.violation is None


def test_it_needs_no_permit() -> None:
    pool = pool_of(1)
    decoder, heard = hearing(pool)
    messages = decoder.feed(frame() * 2)
    assert (len(messages), taken(pool), len(pool.free)) == (2, 2, 0)
    assert decoder.heartbeats is False
    assert decoder.feed(BEAT * 3) == []
    assert (len(heard), decoder.starved, decoder.heartbeats) == (3, False, True)
    assert taken(pool) == 2


def test_one_behind_a_message_without_a_permit_waits_with_it() -> None:
    pool = pool_of(1)
    decoder, heard = hearing(pool)
    first, _second = decoder.feed(frame(id=1) + frame(id=2) + frame(id=3) + BEAT)
    assert (decoder.starved, heard) == (True, [])
    first.release()
    (third,) = decoder.resume()
    assert (third.message_id, len(heard), decoder.starved) == (3, 1, False)


@pytest.mark.parametrize("state", [*SEND], ids=lambda state: state.name)
def test_it_may_come_where_a_signal_may(state: State) -> None:
    decoder, heard = hearing(None, state)
    decoder.feed(BEAT)
    may = OpCode.SIGNAL in RECEIVE[state]
    assert heard == ([state] if may else [])
    assert (decoder.violation is None) == (may or state in UNDECIDED)


def test_the_first_may_follow_the_hello_in_one_chunk() -> None:
    decoder, heard = hearing(None, State.HELLO_SENT)
    (answer,) = decoder.feed(frame(OpCode.HELLO_RESPONSE) + BEAT)
    assert (answer.op_code, heard) == (OpCode.HELLO_RESPONSE, [State.OPEN])


OTHERS = {
    "with a body": frame(OpCode.SIGNAL, b"x", id=0),
    "with headers": frame(OpCode.SIGNAL, b"a:b\r\n", id=0, headers_len=5, body_len=0),
    "as a request": frame(OpCode.REQUEST, id=0),
    "with more": frame(OpCode.SIGNAL | MORE_BIT, id=0),
    "as a Bye": frame(OpCode.BYE_REQUEST, id=0),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_nothing_else_may_have_the_id_0(data: bytes) -> None:
    decoder, heard = hearing(pool_of(1))
    assert decoder.feed(data) == []
    assert isinstance(decoder.violation, errors.InvalidMessageId)
    assert not heard


def test_where_none_may_come_it_is_a_violation() -> None:
    decoder = Decoder(pool_of(1), State.OPEN, 7)
    assert decoder.feed(BEAT) == []
    assert isinstance(decoder.violation, errors.InvalidMessageId)


def test_a_capture_shows_it() -> None:
    messages = Decoder(None, State.OVERHEARD).feed(frame(id=1) + BEAT + frame(id=2))
    assert [m.message_id for m in messages] == [1, 0, 2]

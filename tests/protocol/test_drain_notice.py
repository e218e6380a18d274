"""Drain notices in the stream: one at most, without a permit, and only where they are expected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.test_decoder import cut, frame, pool_of, taken
from tofu_aio.protocol import errors
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.drain_notice import is_drain_notice
from tofu_aio.protocol.exemptions import Exemptions
from tofu_aio.protocol.lifecycle import RECEIVE, UNDECIDED, State
from tofu_aio.protocol.op_code import MORE_BIT, OpCode
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import Status

NOTICE = frame(OpCode.SIGNAL, id=0, status=Status.SHUTDOWN_STARTED)
BEAT = frame(OpCode.SIGNAL, id=0)


def expecting(pool: Pool | None, state: State = State.OPEN) -> Decoder:
    """A decoder of a channel that is a stream."""
    decoder = Decoder(pool, state, 7)
    decoder.exempt = Exemptions()
    return decoder


def noted(decoder: Decoder) -> None:
    """Do what the owner does."""
    assert decoder.special
    assert decoder.exempt is not None
    decoder.special = False
    decoder.exempt.drain_noted = True


@given(before=st.integers(0, 3), after=st.integers(0, 3), data=st.data())
def test_it_comes_between_the_same_messages_however_the_stream_is_split(
    before: int, after: int, data: st.DataObject
) -> None:
    decoder = expecting(None)
    stream = b"".join(frame(body=b"abc", id=n + 1) for n in range(before)) + NOTICE
    stream += b"".join(frame(body=b"abc", id=n + 11) for n in range(after))
    ids = []
    for chunk in cut(stream, data.draw(st.sets(st.integers(0, len(stream)), max_size=6))):
        batch = decoder.feed(chunk)
        while batch or decoder.pending:
            ids += [message.message_id for message in batch]
            if batch and not batch[-1].message_id:
                noted(decoder)
            batch = decoder.more(100)
    assert ids == [*range(1, before + 1), 0, *range(11, after + 11)]
    assert (decoder.offset, decoder.held, decoder.violation) == (len(stream), 0, None)


def test_it_needs_no_permit() -> None:
    pool = pool_of(1)
    decoder = expecting(pool)
    messages = decoder.feed(frame() * 2)
    assert (taken(pool), len(pool.free)) == (2, 0)
    (notice,) = decoder.feed(NOTICE)
    assert (notice.op_code, notice.message_id, notice._permit) == (OpCode.SIGNAL, 0, None)
    assert (len(messages), taken(pool), decoder.starved) == (2, 2, False)


def test_nothing_behind_it_is_decoded_before_it_was_noted() -> None:
    """Otherwise a peer could have any number of them made into messages."""
    decoder = expecting(None)
    (notice,) = decoder.feed(NOTICE * 1000)
    assert notice.message_id == 0
    noted(decoder)
    assert decoder.more(1000) == []
    assert isinstance(decoder.violation, errors.InvalidMessageId)


@pytest.mark.parametrize("heartbeats", [None, False, True])
def test_a_second_one_breaks_the_protocol(heartbeats: bool | None) -> None:
    decoder = expecting(None)
    decoder.heartbeats = heartbeats
    decoder.feed(NOTICE)
    noted(decoder)
    assert decoder.feed(NOTICE) == []
    assert isinstance(decoder.violation, errors.InvalidMessageId)


def test_a_channel_that_does_not_know_it_refuses_it() -> None:
    decoder = Decoder(None, State.OPEN, 7)
    assert decoder.feed(NOTICE) == []
    assert isinstance(decoder.violation, errors.InvalidMessageId)


def test_a_heartbeat_is_none() -> None:
    decoder = expecting(None)
    decoder.heartbeats = False
    assert decoder.feed(BEAT + NOTICE + BEAT)[0].message_id == 0
    noted(decoder)
    assert decoder.more(9) == []
    assert (decoder.heartbeats, decoder.violation) == (True, None)


@pytest.mark.parametrize(
    "state", [s for s in RECEIVE if s not in UNDECIDED and s is not State.OVERHEARD]
)
def test_it_may_come_where_signals_may(state: State) -> None:
    decoder = expecting(None, state)
    batch = decoder.feed(NOTICE)
    assert bool(batch) == (OpCode.SIGNAL in RECEIVE[state])
    assert (decoder.violation is None) == bool(batch)


@pytest.mark.parametrize(
    "other",
    [
        frame(OpCode.SIGNAL, b"x", id=0, status=Status.SHUTDOWN_STARTED),
        frame(OpCode.SIGNAL | MORE_BIT, id=0, status=Status.SHUTDOWN_STARTED),
        frame(OpCode.REQUEST, id=0, status=Status.SHUTDOWN_STARTED),
        frame(OpCode.SIGNAL, id=0, status=Status.PROCESSING_FAILED),
    ],
)
def test_what_looks_much_like_it_breaks_the_protocol(other: bytes) -> None:
    decoder = expecting(None)
    assert decoder.feed(other) == []
    assert isinstance(decoder.violation, errors.InvalidMessageId)


def test_a_signal_with_its_status_and_an_id_is_a_message() -> None:
    decoder = expecting(None)
    (message,) = decoder.feed(frame(OpCode.SIGNAL, id=5, status=Status.SHUTDOWN_STARTED))
    assert (message.message_id, decoder.special) == (5, False)


def test_a_capture_shows_it() -> None:
    (shown,) = Decoder(None, State.OVERHEARD).feed(NOTICE)
    assert (shown.op_code, shown.status) == (OpCode.SIGNAL, Status.SHUTDOWN_STARTED)
    assert is_drain_notice(shown._proto, shown.status, len(NOTICE))

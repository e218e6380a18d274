"""Messages that take no permit, because somebody has made room for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.test_decoder import Channel, cut, frame, holding_one, pool_of, taken
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.exemptions import Exemptions
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import MORE_BIT, OpCode
from tofu_aio.protocol.pool import Pool
from tofu_aio.protocol.status import LEFT, Status

RESPONSE: Final = frame(OpCode.RESPONSE, id=5)
PART: Final = frame(OpCode.REQUEST | MORE_BIT, id=5)
LAST_PART: Final = frame(OpCode.REQUEST, id=5)
WITHDRAWN: Final = OpCode.REQUEST | MORE_BIT
WITHDRAWAL: Final = frame(WITHDRAWN, status=LEFT, id=5)

AWAITED = 1 << 40
"""The id of a request that somebody waits for."""


class Far(NamedTuple):
    """A request in parts, of which so many bytes have come."""

    length: int


def exempting(
    pool: Pool,
    *,
    counted: tuple[int, ...] = (),
    parts: Mapping[int, Far | None] | None = None,
    withdrawals: bool = False,
) -> Decoder:
    """A decoder some of whose messages take no permit."""
    decoder = Decoder(pool, State.OPEN)
    decoder.exempt = Exemptions(
        awaited={AWAITED}, posted=set(counted), parts=parts or {}, withdrawals=withdrawals
    )
    return decoder


def full(size: int = 1) -> Pool:
    """A pool that has nothing left, and for which others wait."""
    pool = pool_of(size)
    pool.free.clear()
    pool.waiters.append(Channel(pool))
    return pool


def account_of(decoder: Decoder) -> Account:
    assert decoder.account is not None
    return decoder.account


def worths(messages: list[Message]) -> list[int]:
    """How many permits each of them holds."""
    return [m._permit.worth if m._permit is not None else 0 for m in messages]


# --- responses -------------------------------------------------------------------------------


def test_a_response_takes_neither_a_permit_nor_the_reserve() -> None:
    pool = full()
    decoder = exempting(pool)
    messages = decoder.feed(RESPONSE * 3)
    assert worths(messages) == [0, 0, 0]
    assert (len(pool.free), len(pool.reserves), decoder.starved) == (0, 0, False)
    for message in messages:
        message.release()
    assert (len(pool.free), len(pool.reserves)) == (0, 0)


def test_one_that_comes_in_pieces_takes_none_either() -> None:
    pool = full()
    decoder = exempting(pool)
    data = frame(OpCode.RESPONSE, b"body", id=5)
    messages = [
        message for piece in cut(data, range(1, len(data))) for message in decoder.feed(piece)
    ]
    assert (worths(messages), decoder.promised, len(pool.reserves)) == ([0], 0, 0)


@pytest.mark.parametrize("counts", ["its id", "no exemptions"])
def test_a_response_that_is_counted_takes_what_any_message_takes(counts: str) -> None:
    pool = pool_of(1)
    decoder = exempting(pool, counted=(5,))
    if counts == "no exemptions":
        decoder.exempt = None
    messages = decoder.feed(RESPONSE * 3)
    assert (worths(messages), decoder.starved, taken(pool)) == ([1, 1], True, 2)


def test_only_the_ids_that_are_counted_are() -> None:
    pool = pool_of(8)
    decoder = exempting(pool, counted=(6,))
    messages = decoder.feed(RESPONSE + frame(OpCode.RESPONSE, id=6) + RESPONSE + frame())
    assert worths(messages) == [0, 1, 0, 1]


def test_what_is_counted_is_looked_up_at_each_message() -> None:
    """Whoever has the collection adds to it, and takes away, while the decoder reads it."""
    decoder = Decoder(pool_of(8), State.OPEN)
    counted: dict[int, None] = {}
    decoder.exempt = Exemptions(awaited={AWAITED}, exchanges=counted)
    assert worths(decoder.feed(RESPONSE)) == [0]
    counted[5] = None
    assert worths(decoder.feed(RESPONSE)) == [1]
    del counted[5]
    assert worths(decoder.feed(RESPONSE)) == [0]


def test_a_response_behind_a_request_that_waits_waits_with_it() -> None:
    """What takes no permit passes nothing that came before it: order counts more."""
    pool = full()
    decoder, kept = holding_one(pool)
    decoder.exempt = Exemptions()
    assert decoder.feed(frame() + RESPONSE) == []
    assert decoder.starved
    kept.release()
    assert [message.op_code for message in decoder.resume()] == [OpCode.REQUEST, OpCode.RESPONSE]


@pytest.mark.parametrize("op_code", [OpCode.REQUEST, OpCode.SIGNAL])
@pytest.mark.parametrize("more", [0, MORE_BIT])
def test_nothing_else_is_exempt_because_of_its_id(op_code: OpCode, more: int) -> None:
    decoder = exempting(pool_of(8), withdrawals=True)
    assert worths(decoder.feed(frame(op_code | more, id=5) * 2)) == [1, 1]


# --- parts -----------------------------------------------------------------------------------


JOINED: Final = {5: Far(380)}
THROWN_AWAY: Final = {5: None}


@pytest.mark.parametrize("parts", [JOINED, THROWN_AWAY])
def test_a_part_takes_nothing_whatever_is_free(parts: Mapping[int, Far | None]) -> None:
    pool = pool_of(2)
    decoder = exempting(pool, parts=parts)
    assert worths(decoder.feed(PART * 4)) == [0, 0, 0, 0]
    assert (decoder.starved, taken(pool)) == (False, 0)


@pytest.mark.parametrize("parts", [JOINED, THROWN_AWAY])
def test_it_comes_through_where_nothing_is_free(parts: Mapping[int, Far | None]) -> None:
    pool = full()
    decoder, _kept = holding_one(pool)
    decoder.exempt = Exemptions(parts=parts)
    assert worths(decoder.feed(PART * 4)) == [0, 0, 0, 0]
    assert not decoder.starved


def test_the_last_part_takes_permits_for_the_whole() -> None:
    pool = Pool(8, lambda: None, unit=100)
    decoder, _kept = holding_one(pool)
    decoder.exempt = Exemptions(parts=JOINED)
    messages = decoder.feed(PART * 2 + LAST_PART)
    assert worths(messages) == [0, 0, 4], "of 396 bytes"
    assert (account_of(decoder).held, pool.out) == (4, 4)


def test_it_takes_the_reserve_for_the_whole() -> None:
    pool = full()
    decoder = exempting(pool, parts=JOINED)
    messages = decoder.feed(PART + LAST_PART)
    assert worths(messages) == [0, 1]
    assert (len(pool.reserves), pool.out) == (1, 1)


@pytest.mark.parametrize(("size", "share"), [(3, 1.0), (6, 0.5)])
def test_it_waits_for_as_many_as_its_channel_may_have(size: int, share: float) -> None:
    """The whole would take four."""
    pool = Pool(size, lambda: None, unit=100, share=share)
    decoder, kept = holding_one(pool)
    pool.free.pop()
    decoder.exempt = Exemptions(parts=JOINED)
    assert decoder.feed(LAST_PART + frame()) == []
    assert decoder.needs == 3
    kept.release()
    messages = decoder.resume()
    assert (worths(messages)[0], messages[0].message_id) == (1, 5)
    assert len(pool.reserves) == 1


def test_the_last_part_of_what_is_thrown_away_takes_nothing() -> None:
    pool = full()
    decoder = exempting(pool, parts=THROWN_AWAY)
    assert worths(decoder.feed(PART + LAST_PART)) == [0, 0]
    assert len(pool.reserves) == 0


def test_where_nothing_is_counted_any_more_parts_take_nothing() -> None:
    pool = pool_of(2)
    decoder = exempting(pool, parts=JOINED)
    decoder.stop_counting()
    assert worths(decoder.feed(PART + LAST_PART)) == [0, 0]


# After the last part its id is any other one; but who joins the parts does not know yet.
ENDS: Final = {
    "in one chunk": (0, b""),
    "with its header cut": (7, b""),
    "with its body cut": (17, b"body"),
}


@pytest.mark.parametrize(("at", "body"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("parts", [JOINED, THROWN_AWAY])
def test_after_the_last_part_nothing_is_made_until_that_was_sorted(
    parts: Mapping[int, Far | None], at: int, body: bytes
) -> None:
    """Else a peer that uses the id again at once would have as many messages as it likes for
    nothing, or for the price of the whole each.
    """
    pool = pool_of(1)
    decoder = exempting(pool, parts=parts)
    last = frame(body=body, id=5)
    messages = decoder.feed(last[:at])
    messages += decoder.feed(last[at:] + LAST_PART * 20)
    assert [message.body for message in messages] == [body]
    assert (decoder.pending, decoder.starved) == (True, False)
    decoder.exempt = Exemptions()
    messages += decoder.more(32)
    assert (sum(worths(messages)), decoder.starved, taken(pool)) == (2, True, 2)


# --- requests that are taken back ------------------------------------------------------------


def test_a_withdrawal_takes_nothing_where_the_peer_makes_them() -> None:
    pool = full()
    assert worths(exempting(pool, withdrawals=True).feed(WITHDRAWAL)) == [0]
    assert worths(exempting(pool).feed(WITHDRAWAL * 2)) == [1], "here it is a request as any"


@pytest.mark.parametrize(
    "other",
    [
        frame(WITHDRAWN, b"x", status=LEFT, id=5),
        frame(WITHDRAWN, b"a:b\r\n", status=LEFT, id=5, headers_len=5, body_len=0),
        frame(OpCode.REQUEST, status=LEFT, id=5),
        frame(WITHDRAWN, status=Status.NOT_ALLOWED, id=5),
        frame(OpCode.SIGNAL | MORE_BIT, status=LEFT, id=5),
    ],
    ids=["a body", "headers", "no more", "another status", "a signal"],
)
def test_only_a_bare_part_of_a_request_of_that_status_is_one(other: bytes) -> None:
    pool = full()
    messages = exempting(pool, withdrawals=True).feed(other * 2)
    assert (worths(messages), len(pool.reserves)) == ([1], 1)


# --- what is to be sorted --------------------------------------------------------------------

SPECIAL: Final = {
    "a response": frame(OpCode.RESPONSE, b"x"),
    "a response with more": frame(OpCode.RESPONSE | MORE_BIT, b"x"),
    "a first part": frame(OpCode.REQUEST | MORE_BIT, b"x"),
    "a withdrawal": frame(WITHDRAWN, status=LEFT),
}


@pytest.mark.parametrize("data", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("pieces", ["whole", "header cut", "body cut"])
def test_what_is_to_be_sorted_is_noted(data: bytes, pieces: str) -> None:
    decoder = exempting(pool_of(8))
    cuts = {"whole": [], "header cut": [5], "body cut": [min(16, len(data) - 1)]}
    got = []
    for piece in cut(data, cuts[pieces]):
        decoder.special = False
        got += decoder.feed(piece)
    assert (len(got), decoder.special) == (1, True)


def test_a_whole_response_is_one_message_as_any_while_only_posted_requests_are_under_way() -> None:
    """Which is what most of them answer; whoever has posted looks at all that comes."""
    decoder = Decoder(pool_of(8), State.OPEN)
    decoder.exempt = Exemptions(posted={5})
    messages = decoder.feed(RESPONSE * 2)
    assert (worths(messages), decoder.special) == ([1, 1], False)
    assert decoder.feed(frame(OpCode.REQUEST | MORE_BIT))
    assert decoder.special


@pytest.mark.parametrize("op_code", [OpCode.REQUEST, OpCode.SIGNAL])
@pytest.mark.parametrize("at", [[], [5], [16]])
def test_plain_requests_and_signals_need_not_be_sorted(op_code: OpCode, at: list[int]) -> None:
    decoder = exempting(pool_of(8), counted=(6,))
    for piece in cut(frame(op_code, b"x"), at):
        decoder.feed(piece)
    assert not decoder.special


def test_a_plain_request_is_to_be_sorted_while_it_may_be_a_last_part() -> None:
    decoder = exempting(pool_of(8), parts=JOINED)
    decoder.feed(frame(OpCode.SIGNAL, id=5))
    assert not decoder.special
    decoder.feed(LAST_PART)
    assert decoder.special


# --- portions --------------------------------------------------------------------------------


def test_a_chunk_of_16000_responses_is_dealt_out_in_portions() -> None:
    """So that one channel's responses, which no permit bounds, leave the others their turn."""
    pool = full()
    decoder = exempting(pool)
    portion, sizes = 32, []
    batch = decoder.feed(RESPONSE * 16_000, portion)
    while batch:
        assert len(batch) <= portion
        assert decoder.pending == (sum(sizes) + len(batch) < 16_000)
        sizes.append(len(batch))
        portion *= 2
        batch = decoder.more(portion)
    assert sizes[:3] == [32, 64, 128]
    assert (sum(sizes), decoder.held, taken(pool)) == (16_000, 0, 1)


def test_a_portion_is_as_many_messages_with_a_permit_and_as_many_without() -> None:
    decoder = exempting(pool_of(64))
    sizes = [len(decoder.feed((RESPONSE + frame()) * 10 + RESPONSE * 10, 4))]
    while decoder.pending:
        sizes.append(len(decoder.more(4)))
    assert sizes == [8, 8, 6, 4, 4]


# --- whatever comes --------------------------------------------------------------------------


class Kind(NamedTuple):
    """What may come, and whether it holds something as long as it is alive."""

    op_code: int
    id: int
    holds: bool
    status: int = 0


KINDS: Final = [
    Kind(OpCode.REQUEST, 1, True),
    Kind(OpCode.SIGNAL, 5, True),
    Kind(OpCode.SIGNAL | MORE_BIT, 5, True),
    Kind(OpCode.RESPONSE, 2, False),
    Kind(OpCode.RESPONSE | MORE_BIT, 2, False),
    Kind(OpCode.RESPONSE, 3, True),
    Kind(OpCode.REQUEST | MORE_BIT, 4, True),
    Kind(OpCode.REQUEST | MORE_BIT, 5, False),
    Kind(OpCode.REQUEST, 5, True),
    Kind(WITHDRAWN, 6, False, LEFT),
]


@given(
    kinds=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([0, 3, 250])), max_size=25),
    size=st.integers(1, 5),
    share=st.sampled_from([1.0, 0.5]),
    data=st.data(),
)
def test_whatever_comes_in_whatever_pieces_takes_what_it_should_and_in_order(
    kinds: list[tuple[Kind, int]], size: int, share: float, data: st.DataObject
) -> None:
    pool = Pool(size, lambda: None, unit=100, share=share)
    decoder = exempting(pool, counted=(3,), parts=JOINED, withdrawals=True)
    account = account_of(decoder)
    lengths = [0 if kind.status else length for kind, length in kinds]
    stream = b"".join(
        frame(kind.op_code, bytes(length), id=kind.id, status=kind.status)
        for (kind, _), length in zip(kinds, lengths, strict=True)
    )
    got: list[Message] = []
    alive: list[Message] = []

    def take(batch: list[Message]) -> None:
        got.extend(batch)
        alive.extend(batch)
        worth = sum(worths(alive)) + decoder.promised
        assert account.held == pool.out == worth - account.reserved
        for message, (kind, _) in zip(got, kinds, strict=False):
            if message in alive:
                assert (message._permit is not None) == kind.holds
        assert account.reserved or all(m._permit is not account for m in alive)

    for piece in cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6))):
        take(decoder.feed(piece, data.draw(st.integers(1, 4))))
        while decoder.pending or decoder.starved:
            if decoder.starved:
                assert any(message._permit is not None for message in alive), "it has its reserve"
                alive.pop(data.draw(st.integers(0, len(alive) - 1))).release()
                take(decoder.resume(2))
            else:
                take(decoder.more(3))
    assert [(m.op_code, m.message_id, len(m.body)) for m in got] == [
        (OpCode(kind.op_code & 15), kind.id, length)
        for (kind, _), length in zip(kinds, lengths, strict=True)
    ]
    for message in alive:
        message.release()
    assert (taken(pool), account.worth_of_all) == (0, 0)

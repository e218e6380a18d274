"""Bodies that are joined from parts: what they hold, and what bounds them."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable

import pytest

import tofu_aio as tofu
from tests.messaging.threads.test_at_once import at_once
from tofu_aio import Message, OpCode
from tofu_aio.messaging.delivery.joining import Join, JoiningRoom, whole_length
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.binary_header import MAX_PART
from tofu_aio.protocol.pool import Pool

OVERHEAD = 1024
"""Bytes that a body costs beside its own."""


def part(body: bytes = b"", *, more: bool = True, headers: dict[str, str] | None = None) -> Message:
    return Message(OpCode.REQUEST, body, headers or (), more=more, message_id=7)


def drawn(account: Account, body: bytes, *, more: bool = True) -> Message:
    """A part that holds the reserve of a channel, or a permit of its pool."""
    message = part(body, more=more)
    message._permit = account.acquire(1, 1)
    assert message._permit is not None
    return message


def join(room: JoiningRoom, *, keep: bool = True) -> Join:
    return Join(room, "request 7", keep=keep)


@pytest.fixture
def room() -> JoiningRoom:
    return JoiningRoom(10_000, 4_000)


@pytest.fixture
def account() -> Account:
    return Account(Pool(4, lambda: None))


# --- the room --------------------------------------------------------------------------------


def test_the_room_gives_what_it_has_and_never_more(room: JoiningRoom) -> None:
    assert room.take(6_000)
    assert room.take(4_000)
    assert not room.take(1)
    assert room.used == 10_000
    room.give_back(4_000)
    assert room.used == 6_000
    assert not room.take(4_001), "a refusal takes nothing"
    assert room.take(4_000)
    room.give_back(6_000)
    room.give_back(4_000)
    assert room.used == 0


def test_every_thread_gives_back_at_once(room: JoiningRoom) -> None:
    threads = [
        threading.Thread(target=lambda: [room.give_back(1) for _ in range(1_000)]) for _ in range(4)
    ]
    assert room.take(4_000)
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert 0 <= room.used <= 4_000
    for thread in threads:
        thread.join()
    assert room.used == 0


def test_who_asks_while_the_loop_takes_and_gives_back_hears_what_was_taken(
    room: JoiningRoom,
) -> None:
    def take_and_give_back() -> None:
        for _ in range(5_000):
            assert room.take(1_000)
            room.give_back(1_000)

    def ask() -> None:
        while loop.is_alive():
            assert 0 <= room.used <= 1_000

    loop = threading.Thread(target=take_and_give_back)
    loop.start()
    at_once(*[ask] * 2)
    loop.join()
    assert room.used == 0


def test_who_asks_for_statistics_takes_nothing_away_from_the_loop(room: JoiningRoom) -> None:
    class Returned(deque[int]):
        def popleft(self) -> int:
            raise AssertionError("only the loop's thread counts what comes back")

    assert room.take(4_000)
    room._returned = Returned([1_000, 500])
    assert room.used == room.used == 2_500


# --- putting together ------------------------------------------------------------------------


def test_the_parts_become_one_message(room: JoiningRoom) -> None:
    joined = join(room)
    assert joined.add(part(b"one ", headers={"~whole": "13", "a": "1"})) is None
    assert joined.add(part(b"", headers={"b": "2"})) is None
    last = part(b"and other", more=False, headers={"a": "3"})
    assert joined.add(last) is None
    whole = joined.whole(last)
    assert whole is last
    assert (whole.body, whole.more, whole.message_id) == (b"one and other", False, 7)
    assert whole.headers.pairs == (("a", "1"), ("b", "2"), ("a", "3")), "but for the engines' own"


def test_parts_count_in_the_room_with_all_they_have(room: JoiningRoom) -> None:
    joined = join(room)
    joined.add(part(b"12345"))
    assert room.used == joined.taken == OVERHEAD + 5
    joined.add(part(b"", headers={"a": "b"}))
    assert room.used == joined.taken == OVERHEAD + 5 + len(b"a:b\r\n")
    joined.drop()
    joined.drop()
    assert room.used == 0


def test_until_all_are_here_they_hold_nothing_that_messages_wait_for(
    room: JoiningRoom, account: Account
) -> None:
    joined = join(room)
    for _ in range(3):
        assert joined.add(drawn(account, b"12345")) is None
        assert (account.pool.out, len(account.pool.reserves)) == (0, 0)
    assert room.used == OVERHEAD + 15
    joined.drop()
    assert room.used == 0


def test_what_is_unfinished_of_one_peer_leaves_a_part_of_the_room_to_others() -> None:
    """Its first request may take all that is there; those beside it keep to a share."""
    room = JoiningRoom(20_000, 15_000, 0.5)
    first, second = join(room), join(room)
    assert first.add(part(bytes(5_000))) is None
    assert second.add(part(bytes(2_000)), first.taken) is None
    error = second.add(part(bytes(1_000)), first.taken)
    assert isinstance(error, tofu.AllocationFailed)
    assert (second.taken, room.used) == (0, first.taken)
    other = join(room)
    assert other.add(part(bytes(7_000))) is None
    assert first.add(part(bytes(5_000))) is None
    first.drop()
    other.drop()
    assert room.used == 0


def of_a_permit(account: Account) -> Callable[[bytes], Message]:
    return lambda body: drawn(account, body)


def test_a_body_that_would_not_fit_alone_is_not_to_be_tried_again() -> None:
    small = JoiningRoom(10_000, 20_000)
    announced, sent = join(small).announced(9_500), join(small).add(part(bytes(9_600)))
    for error, length in ((announced, 9_500), (sent, 9_600)):
        assert isinstance(error, tofu.InvalidBodyLen)
        assert str(error) == (
            f"request 7 has a body of {length} bytes or more, which takes {OVERHEAD + length} "
            "bytes of room, and there are 10000 (joining_bytes): send it as a stream, or raise "
            "that limit"
        )
    assert small.used == 0
    assert join(small).announced(8_976) is None


@pytest.mark.parametrize("permits", [False, True])
def test_a_body_that_is_too_long_fails_and_gives_all_back(
    room: JoiningRoom, account: Account, *, permits: bool
) -> None:
    make = of_a_permit(account) if permits else part
    joined = join(room)
    assert joined.add(make(bytes(3_999))) is None
    assert joined.add(make(b"x")) is None, "4,000 bytes are allowed"
    error = joined.add(make(b"x"))
    assert isinstance(error, tofu.InvalidBodyLen)
    assert str(error) == (
        "request 7 has a body of 4001 bytes or more, and the limit is 4000 (max_body): send it as "
        "a stream, or raise that limit"
    )
    assert (room.used, account.pool.out, len(account.pool.reserves)) == (0, 0, 0)


def test_the_newest_fails_when_the_room_is_full_and_the_others_go_on(room: JoiningRoom) -> None:
    first, second, third = join(room), join(room), join(room)
    assert first.add(part(bytes(3_900))) is None
    assert second.add(part(bytes(3_000))) is None
    used = room.used
    error = third.add(part(bytes(100)))
    assert isinstance(error, tofu.AllocationFailed)
    assert f"10000 bytes at a time (joining_bytes), and {used} are taken" in str(error)
    assert room.used == used
    assert second.add(part(bytes(10))) is None
    second.drop()
    assert join(room).add(part(bytes(100))) is None
    assert first.add(part(bytes(100))) is None


def test_the_headers_of_all_parts_fit_in_one_message(room: JoiningRoom) -> None:
    large = JoiningRoom(10 * MAX_PART, MAX_PART)
    joined = join(large)
    longest = {"a": "b" * (MAX_PART - len(b"a:\r\n"))}
    assert joined.add(part(headers=longest)) is None
    error = joined.add(part(headers={"c": "d"}))
    assert isinstance(error, tofu.InvalidHeadersLen)
    assert large.used == 0


def test_what_is_announced_is_judged_before_a_byte_has_come(room: JoiningRoom) -> None:
    joined = join(room)
    assert joined.announced(4_000) is None
    assert isinstance(joined.announced(4_001), tofu.InvalidBodyLen)


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ("0", 0),
        ("70000", 70_000),
        ("9" * 19, int("9" * 19)),
        ("9" * 20, None),
        ("-1", None),
        ("1_000", None),
        ("1e5", None),
        ("\u0667", None),
        ("\u00b2", None),
    ],
)
def test_the_length_that_a_first_part_announces(value: str, length: int | None) -> None:
    assert whole_length(part(headers={"~whole": value})) == length


def test_a_part_without_that_header_is_a_stream_s() -> None:
    assert whole_length(part(headers={"whole": "5"})) is None


# --- what the whole message holds ------------------------------------------------------------


def whole_of(
    room: JoiningRoom,
    account: Account,
    *,
    keep: bool = True,
    price: int = 1,
    body: bytes = b"3",
) -> Message:
    """Three parts, the last of which is drawn from somewhere."""
    joined = join(room, keep=keep)
    joined.add(part(b"1"))
    joined.add(part(b"2"))
    last = part(body, more=False)
    last._permit = account.acquire(price, price, apart=True) if keep else None
    joined.add(last)
    return joined.whole(last)


def test_a_request_on_the_reserve_keeps_its_room_until_it_is_released(
    room: JoiningRoom, account: Account
) -> None:
    whole = whole_of(room, account)
    assert whole._permit is not None
    assert (whole._permit.worth, whole._permit.pool) == (1, account.pool)
    assert (room.used, account.pool.out, len(account.pool.reserves)) == (OVERHEAD + 3, 0, 1)
    whole.release()
    whole.release()
    assert (room.used, account.pool.out, len(account.pool.reserves)) == (0, 0, 0)


@pytest.mark.parametrize("price", [1, 2])
def test_a_request_in_the_pool_keeps_what_its_permits_are_not_worth(
    room: JoiningRoom, price: int
) -> None:
    account = Account(Pool(4, lambda: None, unit=1_500))
    beside = drawn(account, b"on the reserve")
    short = whole_of(room, account, price=price)
    assert short._permit is not None
    assert (short._permit.worth, room.used, account.pool.out) == (price, 0, price)
    short.release()
    whole = whole_of(room, account, price=price, body=bytes(3_500))
    assert room.used == OVERHEAD + 2 + 3_500 - price * 1_500
    whole.release()
    beside.release()
    assert (room.used, account.pool.out, len(account.pool.reserves)) == (0, 0, 0)


def test_a_response_keeps_nothing(room: JoiningRoom, account: Account) -> None:
    whole = whole_of(room, account, keep=False)
    assert whole.body == b"123"
    assert (room.used, account.pool.out, len(account.pool.reserves)) == (0, 0, 0)
    whole.release()
    assert room.used == 0


def test_a_request_that_is_dropped_gives_back_too(room: JoiningRoom, account: Account) -> None:
    whole = whole_of(room, account)
    del whole
    gc.collect()
    assert (room.used, account.pool.out, len(account.pool.reserves)) == (0, 0, 0)


def test_another_thread_may_release_it_while_the_loop_takes_room() -> None:
    """Neither loses a byte or a permit to the other."""
    pool = Pool(4, lambda: None)
    room = JoiningRoom(1 << 30, MAX_PART)
    wholes = [whole_of(room, Account(pool)) for _ in range(4)]
    each = room.used // 4
    for _ in range(200):
        threads = [threading.Thread(target=whole.release) for whole in wholes]
        for thread in threads:
            thread.start()
        assert room.take(10)
        for thread in threads:
            thread.join()
        room.give_back(10)
        assert (room.used, pool.out, len(pool.reserves)) == (0, 0, 0)
        wholes = [whole_of(room, Account(pool)) for _ in range(4)]
        assert room.used == 4 * each

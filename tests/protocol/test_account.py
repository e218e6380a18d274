"""What the messages of a channel hold: permits of the pool, and the channel's reserve."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import NamedTuple, SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.waiter import Waiter
from tofu_aio.protocol.account import _RESERVE, LENT, PERMIT, Account
from tofu_aio.protocol.pool import LENT_TO_STREAMS, Permit, Pool

SHARES = [1.0, 0.5, 0.001]


def using_its_reserve(pool: Pool) -> Account:
    """A channel's account, one of whose messages is alive."""
    account = Account(pool)
    assert account.acquire(1, 0) is account
    return account


def test_several_permits_are_taken_together_or_not_at_all() -> None:
    pool = Pool(4, lambda: None, unit=100)
    account = using_its_reserve(pool)
    three = account.acquire(3, 4)
    assert three is not None
    assert account.acquire(2, 4) is None
    assert (three.worth, account.held, len(pool.free)) == (3, 3, 1)
    three.release()
    assert (account.held, len(pool.free)) == (0, 4)


# --- the reserve -----------------------------------------------------------------------------


@pytest.mark.parametrize("price", [1, 4])
def test_the_first_message_alive_is_on_the_reserve_whatever_its_length_and_what_others_hold(
    price: int,
) -> None:
    pool = Pool(4, lambda: None, unit=100, share=0.001)
    pool.free.clear()
    Waiter(pool)
    account = Account(pool)
    permit = account.acquire(price, account.budget())
    assert permit is account
    assert (account.held, account.reserved, len(pool.reserves)) == (0, True, 1)
    assert account.acquire(1, account.budget()) is None, "there is one for each channel"
    permit.release()
    assert (account.reserved, len(pool.reserves), len(pool.free)) == (False, 0, 0)


@pytest.mark.parametrize("first", ["long", "short"])
def test_a_long_message_in_the_pool_gives_its_permits_back_and_nothing_else(first: str) -> None:
    """So while nothing else is alive the reserve is free."""
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    account.lend(1)
    assert account.acquire(1, 0) is account
    long = account.acquire(3, 4)
    assert long is not None
    if first == "long":
        long.release()
        assert (pool.out, account.held, len(pool.reserves)) == (0, 0, 2)
        account.release()
        account.release()
    else:
        account.release()
        account.release()
        assert (pool.out, account.held, len(pool.reserves)) == (3, 3, 0)
        assert account.acquire(4, 0) is account
        account.release()
        long.release()
    assert (pool.out, account.worth_of_all, list(pool.reserves)) == (0, 0, [])
    assert (account.reserved, account.lent) == (False, 0)


def test_a_permit_may_be_kept_apart_so_that_it_is_not_taken_for_the_reserve() -> None:
    pool = Pool(4, lambda: None)
    account = Account(pool)
    assert account.acquire(1, 4, apart=True) is account, "the reserve is the account itself"
    permit = account.acquire(1, 4, apart=True)
    assert permit is not None
    assert permit is not account
    assert (permit.worth, account.held, len(account.taken), pool.out) == (1, 1, 1, 1)
    permit.release()
    assert (account.held, pool.out, account.reserved) == (0, 0, True)


def test_the_reserve_is_the_last_to_come_back_whichever_message_is_released_first() -> None:
    """So an application that keeps the last message of each channel keeps nothing of the pool."""
    pool = Pool(3, lambda: None)
    account = using_its_reserve(pool)
    first: Permit = account
    for _ in range(3):
        assert account.acquire(1, 3) is not None
    for free in (1, 2, 3):
        first.release()
        assert (len(pool.free), account.reserved) == (free, True)
    first.release()
    assert (len(pool.free), account.reserved, account.taken) == (3, False, [])


@pytest.mark.parametrize("reserved", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_the_reserve_pays_for_one_of_the_permits_that_were_taken_together(
    reserved: bool, count: int
) -> None:
    pool = Pool(5, lambda: None)
    account = using_its_reserve(pool) if reserved else Account(pool)
    for _ in range(count):
        pool.free.pop()
    account.charge(count)
    assert account.held == pool.out == (count if reserved else count - 1)
    assert len(account.taken) == account.held + 1
    assert len(pool.reserves) == 1


def test_the_permit_that_the_reserve_pays_for_is_told_to_those_who_wait() -> None:
    told: list[int] = []
    pool = Pool(1, lambda: told.append(len(pool.free)))
    pool.free.pop()
    Waiter(pool)
    Account(pool).charge(1)
    assert told == [1]


@pytest.mark.parametrize("where", ["waiters", "parked"])
def test_a_reserve_that_comes_back_is_told_only_while_somebody_waits(where: str) -> None:
    told: list[bool] = []
    pool = Pool(1, lambda: told.append(account.reserved))
    account = using_its_reserve(pool)
    account.release()
    assert (told, list(pool.restored)) == ([], [])
    assert account.acquire(1, 0) is account
    Waiter(pool, getattr(pool, where))
    account.release()
    assert (told, list(pool.restored)) == ([False], [account]), "once it is free"


class Interrupted(list[int]):
    """What a channel holds, of which another thread takes something, and loses its turn then."""

    def __init__(self, items: list[int], meanwhile: Callable[[], object]) -> None:
        super().__init__(items)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def pop(self) -> int:  # type: ignore[override]  # no index, as the pool pops
        what = super().pop()
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return what


def test_a_reserve_that_another_thread_gives_back_in_this_moment_is_not_there_yet() -> None:
    """A message that comes between its two steps takes a permit, and the next one the reserve."""
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    account.taken = Interrupted(account.taken, lambda: account.acquire(1, 4))
    account.release()
    assert (account.taken, account.reserved, account.held) == ([PERMIT], False, 1)
    assert account.acquire(4, 0) is account
    assert (account.taken, account.held, len(pool.reserves)) == ([_RESERVE, PERMIT], 1, 1)
    long = account.acquire(2, 3)
    assert long is not None
    long.release()  # two permits, though the reserve was taken after the first
    assert (account.taken, pool.out) == ([_RESERVE, PERMIT], 1)
    account.release()
    assert (account.taken, pool.out, account.reserved) == ([_RESERVE], 0, True)
    account.release()
    assert (account.taken, pool.out, account.reserved) == ([], 0, False)
    assert not pool.reserves


# --- what is lent ----------------------------------------------------------------------------


@pytest.mark.parametrize("price", [1, 4])
@pytest.mark.parametrize("most", [0, 1, 3])
def test_what_is_lent_frees_the_reserve_for_one_message_more(price: int, most: int) -> None:
    pool = Pool(4, lambda: None, unit=100)
    pool.free.clear()
    account = using_its_reserve(pool)
    for lent in range(1, most + 1):
        account.lend(most)
        assert (account.reserved, account.lent, len(pool.reserves)) == (False, lent, lent)
        assert account.acquire(price, 0) is account
        assert (account.reserved, account.held, len(pool.reserves)) == (True, 0, lent + 1)
    account.lend(most)
    assert (account.reserved, account.lent) == (True, most), "but for so many"
    assert account.acquire(1, 0) is None


def test_there_is_nothing_to_lend_while_the_reserve_is_free() -> None:
    pool = Pool(4, lambda: None)
    account = Account(pool)
    account.lend(1)
    assert (account.lent, account.taken, len(pool.reserves)) == (0, [], 0)


def test_permits_come_back_first_then_what_was_lent_and_the_reserve_last() -> None:
    pool = Pool(2, lambda: None)
    account = using_its_reserve(pool)
    account.lend(1)
    for _ in range(3):
        assert account.acquire(1, 2) is account
    left = []
    while account.taken:
        account.release()
        left.append((account.held, account.lent, account.reserved, len(pool.reserves)))
    assert left == [(1, 1, True, 2), (0, 1, True, 2), (0, 0, True, 1), (0, 0, False, 0)]


def test_it_may_be_lent_again_once_it_has_come_back() -> None:
    pool = Pool(1, lambda: None)
    account = using_its_reserve(pool)
    for _ in range(3):
        account.lend(1)
        assert account.acquire(1, 0) is account
        account.release()
        assert (account.lent, account.reserved) == (0, True)


def test_that_it_has_come_back_is_told_to_those_who_wait() -> None:
    """The channel may lend again, so it looks whether it may go on."""
    told: list[int] = []
    pool = Pool(1, lambda: told.append(account.lent))
    account = using_its_reserve(pool)
    account.lend(1)
    assert account.acquire(1, 0) is account
    Waiter(pool)
    account.release()
    assert (told, list(pool.restored)) == ([0], [account])


@pytest.mark.parametrize("others", [0, 1])
def test_the_reserve_may_come_back_by_another_thread_while_it_is_freed(others: int) -> None:
    """Between the two steps in which that is done: then nothing is lent."""
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)

    def lend() -> None:
        for _ in range(others):
            assert account.acquire(1, 4) is account
        account.lend(1)

    account.taken = Interrupted(account.taken, lend)
    account.release()
    assert (account.lent, account.reserved, account.taken) == (0, False, [PERMIT] * others)
    assert (pool.out, len(pool.reserves)) == (others, 0)


class Slow(list[int]):
    """What a channel holds, where another thread takes all of it between two steps."""

    def __init__(self, items: list[int], meanwhile: Callable[[], object]) -> None:
        super().__init__(items)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def index(self, item: int, *bounds: SupportsIndex) -> int:
        index = super().index(item, *bounds)
        self._interrupt()
        return index

    def __setitem__(self, index: SupportsIndex, item: int, /) -> None:
        super().__setitem__(index, item)
        self._interrupt()

    def _interrupt(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()


@pytest.mark.parametrize("alive", [1, 2, 3])
@pytest.mark.parametrize("released", [1, 2, 3])
@pytest.mark.parametrize("step", ["index", "__setitem__"])
def test_messages_may_be_released_between_the_steps_of_lending(
    monkeypatch: pytest.MonkeyPatch, step: str, alive: int, released: int
) -> None:
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    for _ in range(alive - 1):
        assert account.acquire(1, 4) is account
    released = min(alive, released)

    def release() -> None:
        for _ in range(released):
            account.release()

    account.taken = Slow(account.taken, release)
    if step == "__setitem__":
        monkeypatch.setattr(Slow, "index", list.index)
    account.lend(1)
    left = alive - released
    assert len(account.taken) == left
    assert len(pool.reserves) == account.reserved + account.lent == (left > 0)
    assert pool.out == account.held == max(left - 1, 0)
    for _ in range(left):
        account.release()
    assert (pool.out, list(pool.reserves), account.taken) == (0, [], [])
    assert not account.reserved
    assert not account.lent


# --- whatever is taken and released ------------------------------------------------------------


class Held(NamedTuple):
    """A message that is alive: whose, what it holds, and how long it is."""

    account: Account
    permit: Permit
    length: int


UNIT = 100

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["chunk", "message", "message", "lend", "release", "release", "wait", "go"]
        ),
        st.integers(0, 2),
        st.integers(0, 1000),
    ),
    max_size=40,
)


def play(pool: Pool, script: list[tuple[str, int, int]]) -> Iterator[list[Held]]:
    """Do as channels do; after each step, what is alive."""
    accounts = [Account(pool) for _ in range(3)]
    alive: list[Held] = []
    for what, which, number in script:
        account = accounts[which]
        length = 16 + number % (pool.size * UNIT - 15)
        if what == "chunk":
            alive += chunk(account, 1 + number % 5)
        elif what == "message":
            permit = account.acquire(pool.price(length), account.budget())
            alive += [Held(account, permit, length)] if permit is not None else []
        elif what == "release" and alive:
            alive.pop(number % len(alive)).permit.release()
        elif what == "wait":
            Waiter(pool)
        elif what == "go":
            pool.waiters.clear()
            pool.suspended.clear()
        elif what == "lend":
            account.lend(number % 3)
        yield alive
    while alive:
        alive.pop().permit.release()
        yield alive


def chunk(account: Account, count: int) -> list[Held]:
    """Short messages that came together, as a decoder takes their permits."""
    pool, taken = account.pool, 0
    for _ in range(min(count, account.budget())):
        pool.free.pop()
        taken += 1
    if taken:
        account.charge(taken)
    return [Held(account, account, UNIT) for _ in range(taken)]


@given(steps, st.integers(1, 8), st.sampled_from(SHARES))
def test_whatever_is_taken_and_released_in_whatever_order_all_of_it_is_accounted_for(
    script: list[tuple[str, int, int]], size: int, share: float
) -> None:
    pool = Pool(size, lambda: None, unit=UNIT, share=share)
    for alive in play(pool, script):
        accounts = {held.account for held in alive}
        assert pool.out + len(pool.free) == size
        assert pool.out == sum(account.held for account in accounts)
        assert len(pool.reserves) == sum(a.reserved + a.lent for a in accounts)
        for account in accounts:
            own = [held for held in alive if held.account is account]
            worth = sum(held.permit.worth for held in own)
            beside = account.reserved + account.lent
            assert account.worth_of_all == worth == account.held + beside
            # The reserve is in use unless all that is alive is long, and in the pool.
            assert beside or all(held.permit is not account for held in own)
            lengths = sorted(held.length for held in own)
            longest = sum(lengths[-beside:]) if beside else 0
            assert sum(lengths) <= account.held * UNIT + longest
    assert (pool.out, len(pool.free), list(pool.reserves)) == (0, size, [])


@given(steps, st.integers(1, 8), st.sampled_from(SHARES))
def test_a_channel_takes_no_more_than_its_share_of_what_others_leave(
    script: list[tuple[str, int, int]], size: int, share: float
) -> None:
    pool = Pool(size, lambda: None, unit=UNIT, share=share)
    held: dict[Account, int] = {}
    for alive in play(pool, script):
        now = {each.account: each.account.held for each in alive}
        for account, count in now.items():
            if count > held.get(account, 0):  # it took something: it was within its share
                assert count <= max(int((len(pool.free) + count) * share), 1)
                assert not pool.waiters
        held = now


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("seed", range(3))
def test_eight_threads_release_what_one_takes_and_all_of_it_comes_back(seed: int) -> None:
    choose = random.Random(seed)
    told: list[None] = []
    pool = Pool(32, lambda: told.append(None), unit=UNIT, share=0.5)
    accounts = [Account(pool) for _ in range(3)]
    Waiter(pool, pool.parked)  # so that each release looks further than the queue
    alive: SimpleQueue[Permit | None] = SimpleQueue()

    def release() -> None:
        while (permit := alive.get()) is not None:
            permit.release()

    threads = [threading.Thread(target=release) for _ in range(8)]
    for thread in threads:
        thread.start()
    taken = 0
    while taken < 2000:
        account = choose.choice(accounts)
        account.lend(choose.randrange(3))
        if choose.random() < 0.3:
            held = [each.permit for each in chunk(account, choose.randrange(1, 6))]
        else:
            price = choose.choice((1, 1, 2, 7))
            permit = account.acquire(price, account.budget())
            held = [permit] if permit is not None else []
        for permit in held:
            alive.put(permit)
        taken += len(held)
        assert 0 <= len(pool.free) <= pool.size
    for _ in threads:
        alive.put(None)
    for thread in threads:
        thread.join()
    assert (pool.out, len(pool.free), list(pool.reserves)) == (0, 32, [])
    assert [(each.taken, each.reserved, each.lent) for each in accounts] == [([], False, 0)] * 3
    assert told


# --- shares ----------------------------------------------------------------------------------


def test_with_a_share_of_a_half_each_holds_what_all_leave_and_something_is_always_left() -> None:
    pool = Pool(64, lambda: None, share=0.5)
    held = []
    for _ in range(5):
        account = Account(pool)
        while (budget := account.budget()) > 0:
            assert account.acquire(1, budget) is not None
        held.append(account.held)
    assert held == [32, 16, 8, 4, 2]
    assert len(pool.free) == 2
    assert len(pool.reserves) == 5, "and each has one more, which is nobody else's"


def test_who_holds_no_permit_may_take_one_whatever_its_share() -> None:
    pool = Pool(10, lambda: None, share=0.001)
    account = using_its_reserve(pool)
    assert account.budget() == 1
    assert not account.over_share(1)
    assert account.acquire(1, account.budget()) is not None
    assert account.budget() <= 0
    assert account.over_share(1), "it waits for its own, whether or not others wait"


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_a_long_message_beyond_the_share_takes_the_reserve_or_nothing(share: float) -> None:
    """However much is free: permits beyond its share are not its own to take."""
    pool = Pool(10, lambda: None, unit=100, share=share)
    account = Account(pool)
    assert account.acquire(10, account.budget()) is account
    assert account.acquire(10, account.budget()) is None
    assert account.over_share(10), "its own message is in the way, and nobody else's"
    assert pool.out == 0
    account.release()
    assert account.acquire(10, account.budget()) is account


def test_who_needs_more_than_its_share_of_what_is_free_is_in_nobody_s_way() -> None:
    """Though it holds nothing: else others, who need less, would wait behind it without end."""
    pool = Pool(10, lambda: None, unit=100, share=0.5)
    account = using_its_reserve(pool)
    assert not account.over_share(5)
    for _ in range(3):
        pool.free.pop()
    assert account.over_share(4)
    assert not account.over_share(3)
    pool.free.clear()
    assert account.over_share(2)
    assert not account.over_share(1), "one permit is within everybody's share"


def test_who_could_take_it_if_it_were_free_waits_for_others() -> None:
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    for _ in range(3):
        pool.free.pop()
    assert (account.budget(), account.over_share(4)) == (1, False)


def test_a_share_that_is_reached_is_looked_at_when_a_permit_comes_back() -> None:
    told: list[int] = []
    pool = Pool(4, lambda: told.append(len(pool.free)), share=0.5)
    account = using_its_reserve(pool)
    permit = account.acquire(2, account.budget())
    assert permit is not None
    Waiter(pool, pool.parked)
    permit.release()
    assert told == [4]


def test_nobody_takes_past_those_who_wait() -> None:
    pool = Pool(4, lambda: None)
    Waiter(pool)
    account = using_its_reserve(pool)
    assert account.budget() == 0
    assert account.acquire(1, account.budget()) is None
    assert not pool.acquire()


def test_the_sum_of_permits_that_another_thread_takes_meanwhile_is_given_back() -> None:
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    budget = account.budget()
    pool.free.pop()
    assert account.acquire(4, budget) is None
    assert (len(pool.free), account.held) == (3, 0)


def test_what_is_lent_beyond_a_few_is_bounded_over_all_channels() -> None:
    """A peer may begin as many requests in parts as it likes, on any number of channels."""
    pool = Pool(1, lambda: None)
    pool.free.clear()
    accounts = [Account(pool) for _ in range(3)]
    for account in accounts:
        for _ in range(LENT_TO_STREAMS):
            account.acquire(1, 0)
            account.lend(LENT + LENT_TO_STREAMS)
    assert sum(account.lent for account in accounts) == LENT_TO_STREAMS + 3 * LENT
    assert min(account.lent for account in accounts) == LENT, "which each may be lent"
    for account in accounts:
        while account.taken:
            account.release()
    assert (len(pool.to_lend), len(pool.reserves)) == (LENT_TO_STREAMS, 0)

"""The accounting of permits, and of each channel's reserve."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofu_aio.protocol.pool import _PERMIT, _RESERVE, Account, Permit, Pool, Waiters

SHARES = [1.0, 0.5, 0.001]


class Waiter:
    """A channel that waits, as far as a pool looks at it."""

    needs = 1
    over_its_share = False
    suspended_at: float | None = None
    suspended_for = 0.0
    suspensions = 0

    def __init__(self, pool: Pool) -> None:
        self.account = Account(pool)

    def resume(self, granted: int) -> None: ...

    def reconcile_reading(self) -> None: ...


def using_its_reserve(pool: Pool) -> Account:
    """A channel's account, one of whose messages is alive."""
    account = Account(pool)
    assert account.take(1, 0) is account
    return account


@pytest.mark.parametrize("size", [0, -1])
def test_a_pool_without_permits_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pool(size, lambda: None)


def test_taken_and_free_are_the_size() -> None:
    pool = Pool(3, lambda: None)
    for taken in range(1, 4):
        pool.free.pop()
        assert (pool.out, len(pool.free)) == (taken, 3 - taken)
    with pytest.raises(IndexError):
        pool.free.pop()
    pool.release()
    assert (pool.out, len(pool.free)) == (2, 1)


def test_a_release_is_told_only_to_those_who_wait_and_after_it_happened() -> None:
    free: list[int] = []
    pool = Pool(2, lambda: free.append(len(pool.free)))
    pool.free.clear()
    pool.release()
    assert free == []
    pool.waiters.append(Waiter(pool))
    pool.release()
    assert free == [2]


def test_who_waits_leaves_in_order_or_whenever_it_wants() -> None:
    pool = Pool(1, lambda: None)
    a, b, c, d = (Waiter(pool) for _ in range(4))
    waiters = Waiters()
    for waiter in (a, b, c, d):
        waiters.append(waiter)
    waiters.discard(c)
    waiters.discard(c)
    assert (waiters.first, waiters.popleft(), waiters.first) == (a, a, b)
    assert list(waiters) == [b, d]


# --- long messages ---------------------------------------------------------------------------


def test_a_long_message_takes_permits_by_its_length_and_never_more_than_there_are() -> None:
    pool = Pool(4, lambda: None, unit=100)
    assert [pool.price(n) for n in (16, 100, 101, 200, 400, 401, 10_000)] == [1, 1, 2, 2, 4, 4, 4]


def test_several_permits_are_taken_together_or_not_at_all() -> None:
    pool = Pool(4, lambda: None, unit=100)
    account = using_its_reserve(pool)
    three = account.take(3, 4)
    assert three is not None
    assert account.take(2, 4) is None
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
    pool.waiters.append(Waiter(pool))
    account = Account(pool)
    permit = account.take(price, account.budget())
    assert permit is account
    assert (account.held, account.reserved, len(pool.reserves)) == (0, True, 1)
    assert account.take(1, account.budget()) is None, "there is one for each channel"
    permit.release()
    assert (account.reserved, len(pool.reserves), len(pool.free)) == (False, 0, 0)


def test_the_reserve_is_the_last_to_come_back_whichever_message_is_released_first() -> None:
    """So an application that keeps the last message of each channel keeps nothing of the pool."""
    pool = Pool(3, lambda: None)
    account = using_its_reserve(pool)
    first: Permit = account
    for _ in range(3):
        assert account.take(1, 3) is not None
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
    pool.waiters.append(Waiter(pool))
    Account(pool).charge(1)
    assert told == [1]


@pytest.mark.parametrize("where", ["waiters", "parked"])
def test_a_reserve_that_comes_back_is_told_only_while_somebody_waits(where: str) -> None:
    told: list[bool] = []
    pool = Pool(1, lambda: told.append(account.reserved))
    account = using_its_reserve(pool)
    account.release()
    assert (told, list(pool.restored)) == ([], [])
    assert account.take(1, 0) is account
    getattr(pool, where).append(Waiter(pool))
    account.release()
    assert (told, list(pool.restored)) == ([False], [account]), "once it is free"


class Interrupted(list[bool]):
    """What a channel holds, of which another thread takes something, and loses its turn then."""

    def __init__(self, items: list[bool], meanwhile: Callable[[], object]) -> None:
        super().__init__(items)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def pop(self) -> bool:  # type: ignore[override]  # no index, as the pool pops
        what = super().pop()
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return what


def test_a_reserve_that_another_thread_gives_back_in_this_moment_is_not_there_yet() -> None:
    """A message that comes between its two steps takes a permit, and the next one the reserve."""
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    account.taken = Interrupted(account.taken, lambda: account.take(1, 4))
    account.release()
    assert (account.taken, account.reserved, account.held) == ([_PERMIT], False, 1)
    assert account.take(4, 0) is account
    assert (account.taken, account.held, len(pool.reserves)) == ([False, True], 1, 1)
    long = account.take(2, 3)
    assert long is not None
    long.release()  # two permits, though the reserve was taken after the first
    assert (account.taken, pool.out) == ([False, True], 1)
    account.release()
    assert (account.taken, pool.out, account.reserved) == ([_RESERVE], 0, True)
    account.release()
    assert (account.taken, pool.out, account.reserved) == ([], 0, False)
    assert not pool.reserves


def test_the_last_permit_may_come_back_while_the_reserve_is_put_beneath_it() -> None:
    pool = Pool(4, lambda: None)
    account = Account(pool)
    assert account.take_permits(3, 4) is not None
    long = account.take_permits(1, 4)
    assert long is not None
    account.taken = Interrupted(account.taken, lambda: account.take(1, 4))
    long.release()
    assert (account.taken, account.held, pool.out) == ([False, True, True, True], 3, 3)


# --- whatever is taken and released ------------------------------------------------------------


class Held(NamedTuple):
    """A message that is alive: whose, what it holds, and how long it is."""

    account: Account
    permit: Permit
    length: int


UNIT = 100

steps = st.lists(
    st.tuples(
        st.sampled_from(["chunk", "message", "part", "release", "release", "wait", "go"]),
        st.integers(0, 2),
        st.integers(0, 1000),
    ),
    max_size=40,
)


def play(pool: Pool, script: list[tuple[str, int, int]], *, parts: bool) -> Iterator[list[Held]]:
    """Do as channels do; after each step, what is alive."""
    accounts = [Account(pool) for _ in range(3)]
    alive: list[Held] = []
    for what, which, number in script:
        account = accounts[which]
        length = 16 + number % (pool.size * UNIT - 15)
        if what == "chunk":
            alive += chunk(account, 1 + number % 5)
        elif what == "message" or (what == "part" and parts):
            take = account.take if what == "message" else account.take_permits
            permit = take(pool.price(length), account.budget())
            alive += [Held(account, permit, length)] if permit is not None else []
        elif what == "release" and alive:
            alive.pop(number % len(alive)).permit.release()
        elif what == "wait":
            pool.waiters.append(Waiter(pool))
        elif what == "go":
            pool.waiters.clear()
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


@given(steps, st.integers(1, 8), st.sampled_from(SHARES), st.booleans())
def test_whatever_is_taken_and_released_in_whatever_order_all_of_it_is_accounted_for(
    script: list[tuple[str, int, int]], size: int, share: float, parts: bool
) -> None:
    pool = Pool(size, lambda: None, unit=UNIT, share=share)
    for alive in play(pool, script, parts=parts):
        accounts = {held.account for held in alive}
        assert pool.out + len(pool.free) == size
        assert pool.out == sum(account.held for account in accounts)
        assert len(pool.reserves) == sum(account.reserved for account in accounts)
        for account in accounts:
            own = [held for held in alive if held.account is account]
            worth = sum(held.permit.worth for held in own)
            # A part takes no reserve; all else does, as soon as something is alive.
            assert account.reserved or parts
            assert account.held == worth - account.reserved
            lengths = [held.length for held in own]
            longest = max(lengths) if account.reserved else 0
            assert sum(lengths) <= account.held * UNIT + longest
    assert (pool.out, len(pool.free), list(pool.reserves)) == (0, size, [])


@given(steps, st.integers(1, 8), st.sampled_from(SHARES))
def test_a_channel_takes_no_more_than_its_share_of_what_others_leave(
    script: list[tuple[str, int, int]], size: int, share: float
) -> None:
    pool = Pool(size, lambda: None, unit=UNIT, share=share)
    held: dict[Account, int] = {}
    for alive in play(pool, script, parts=True):
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
    pool.parked.append(Waiter(pool))  # so that each release looks further than the queue
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
        if choose.random() < 0.3:
            held = [each.permit for each in chunk(account, choose.randrange(1, 6))]
        else:
            price = choose.choice((1, 1, 2, 7))
            permit = account.take(price, account.budget())
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
    assert [(account.taken, account.reserved) for account in accounts] == [([], False)] * 3
    assert told


# --- shares ----------------------------------------------------------------------------------


def test_with_a_share_of_a_half_each_holds_what_all_leave_and_something_is_always_left() -> None:
    pool = Pool(64, lambda: None, share=0.5)
    held = []
    for _ in range(5):
        account = Account(pool)
        while (budget := account.budget()) > 0:
            assert account.take(1, budget) is not None
        held.append(account.held)
    assert held == [32, 16, 8, 4, 2]
    assert len(pool.free) == 2
    assert len(pool.reserves) == 5, "and each has one more, which is nobody else's"


def test_who_holds_no_permit_may_take_one_whatever_its_share() -> None:
    pool = Pool(10, lambda: None, share=0.001)
    account = using_its_reserve(pool)
    assert account.budget() == 1
    assert not account.over_share(1)
    assert account.take(1, account.budget()) is not None
    assert account.budget() <= 0
    assert account.over_share(1), "it waits for its own, whether or not others wait"


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_a_long_message_beyond_the_share_takes_the_reserve_or_nothing(share: float) -> None:
    """However much is free: permits beyond its share are not its own to take."""
    pool = Pool(10, lambda: None, unit=100, share=share)
    account = Account(pool)
    assert account.take(10, account.budget()) is account
    assert account.take(10, account.budget()) is None
    assert account.over_share(10), "its own message is in the way, and nobody else's"
    assert pool.out == 0
    account.release()
    assert account.take(10, account.budget()) is account


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
    permit = account.take(2, account.budget())
    assert permit is not None
    pool.parked.append(Waiter(pool))
    permit.release()
    assert told == [4]


def test_nobody_takes_past_those_who_wait() -> None:
    pool = Pool(4, lambda: None)
    pool.waiters.append(Waiter(pool))
    account = using_its_reserve(pool)
    assert account.budget() == 0
    assert account.take(1, account.budget()) is None
    assert not pool.take()


def test_the_sum_of_permits_that_another_thread_takes_meanwhile_is_given_back() -> None:
    pool = Pool(4, lambda: None)
    account = using_its_reserve(pool)
    budget = account.budget()
    pool.free.pop()
    assert account.take_permits(4, budget) is None
    assert (len(pool.free), account.held) == (3, 0)

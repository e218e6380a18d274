"""The accounting of permits."""

from __future__ import annotations

import pytest

from tofu_aio.protocol.pool import Account, Pool


class Waiter:
    needs = 1
    over_its_share = False
    suspended_at: float | None = None
    suspended_for = 0.0
    suspensions = 0

    def resume(self) -> None: ...

    def reconcile_reading(self) -> None: ...


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
    pool.waiters.append(Waiter())
    pool.release()
    assert free == [2]


# --- long messages ---------------------------------------------------------------------------


def test_a_long_message_takes_permits_by_its_length_and_never_more_than_there_are() -> None:
    pool = Pool(4, lambda: None, unit=100)
    assert [pool.price(n) for n in (16, 100, 101, 200, 400, 401, 10_000)] == [1, 1, 2, 2, 4, 4, 4]


def test_several_permits_are_taken_together_or_not_at_all() -> None:
    pool = Pool(4, lambda: None, unit=100)
    account = Account(pool)
    three = account.take(3)
    assert three is not None
    assert account.take(2) is None
    assert (three.worth, account.settle(), len(pool.free)) == (3, 3, 1)
    three.release()
    assert (account.settle(), len(pool.free)) == (0, 4)


# --- shares ----------------------------------------------------------------------------------


def test_with_a_share_of_a_half_each_holds_what_all_leave_and_something_is_always_left() -> None:
    pool = Pool(64, lambda: None, share=0.5)
    held = []
    for _ in range(5):
        account = Account(pool)
        while account.budget() > 0:
            assert account.take(1) is not None
        held.append(account.settle())
    assert held == [32, 16, 8, 4, 2]
    assert len(pool.free) == 2


def test_who_holds_nothing_may_hold_one_message_whatever_its_length_and_its_share() -> None:
    pool = Pool(10, lambda: None, unit=100, share=0.001)
    account = Account(pool)
    assert account.budget() == 1
    assert not account.over_share(10)
    long = account.take(10)
    assert long is not None
    assert account.budget() <= 0
    assert account.over_share(1), "it waits for its own, whether or not others wait"
    long.release()
    assert account.take(1) is not None
    assert account.over_share(1)


def test_a_share_that_is_reached_is_looked_at_when_a_permit_comes_back() -> None:
    told: list[int] = []
    pool = Pool(4, lambda: told.append(len(pool.free)), share=0.5)
    account = Account(pool)
    permit = account.take(2)
    assert permit is not None
    pool.parked[Waiter()] = None
    permit.release()
    assert told == [4]


def test_nobody_takes_past_those_who_wait() -> None:
    pool = Pool(4, lambda: None)
    pool.waiters.append(Waiter())
    assert Account(pool).budget() == 0
    assert not pool.take()

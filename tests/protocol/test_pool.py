"""The pool's permits, and the queue of channels that wait for some."""

from __future__ import annotations

import pytest

from tests.protocol.waiter import Waiter
from tofu_aio.protocol.pool import Pool, Waiters


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
    Waiter(pool)
    pool.release()
    assert free == [2]


def test_who_waits_leaves_in_order_or_whenever_it_wants() -> None:
    pool = Pool(1, lambda: None)
    waiters = Waiters()
    a, b, c, d = (Waiter(pool, waiters) for _ in range(4))
    waiters.discard(c)
    waiters.discard(c)
    assert (waiters.first, waiters.popleft(), waiters.first) == (a, a, b)
    assert list(waiters) == [b, d]


# --- long messages ---------------------------------------------------------------------------


def test_a_long_message_takes_permits_by_its_length_and_never_more_than_there_are() -> None:
    pool = Pool(4, lambda: None, unit=100)
    assert [pool.price(n) for n in (16, 100, 101, 200, 400, 401, 10_000)] == [1, 1, 2, 2, 4, 4, 4]

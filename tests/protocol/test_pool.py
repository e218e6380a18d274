"""The accounting of permits."""

from __future__ import annotations

import pytest

from tofu_aio.protocol.pool import Pool


class Waiter:
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

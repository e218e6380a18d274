"""Credit: bounded for each channel and for all together, and no channel is ever without."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tofu_aio.transport.nats.credit import Budget, Window
from tofu_aio.transport.nats.limits import (
    BUDGET,
    CHUNK_COST,
    FIRST_WINDOW,
    MAX_WINDOW,
    MIN_WINDOW,
)
from tofu_aio.transport.nats.sender import Sender


def take_all(window: Window, *, read: bool = True) -> int:
    """Have the sender use all its credit in one chunk. Return how much."""
    nbytes = window.granted - CHUNK_COST
    assert window.arrived(nbytes)
    if read:
        window.read(nbytes, chunk=True)
    return nbytes


def test_a_window_grows_as_it_is_used_up_to_a_bound() -> None:
    window = Window(Budget())
    sizes = []
    for _ in range(8):
        window.grant()
        sizes.append(window.granted)
        take_all(window)
    assert sizes == [FIRST_WINDOW << n for n in range(4)] + [MAX_WINDOW] * 4


def test_what_was_not_read_gets_no_credit() -> None:
    window = Window(Budget())
    window.grant()
    nbytes = take_all(window, read=False)
    assert window.grant() == 0
    window.read(nbytes * 2 // 3, chunk=False)
    assert window.grant() > 0
    assert window.granted + window.unread == 2 * FIRST_WINDOW


def test_who_sends_more_than_it_may_is_caught() -> None:
    window = Window(Budget())
    window.grant()
    assert not window.arrived(window.granted - CHUNK_COST + 1)
    assert not Window(Budget()).arrived(0)


def test_many_channels_share_a_budget_and_each_has_a_little() -> None:
    budget = Budget()
    windows = [Window(budget) for _ in range(5000)]
    for window in windows:
        window.grant()
    assert all(window.granted >= MIN_WINDOW for window in windows)
    assert sum(window.granted for window in windows) <= BUDGET + 5000 * MIN_WINDOW
    for window in windows:
        window.close()
    assert budget.free == BUDGET


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 400_000)), max_size=60))
def test_whatever_is_sent_and_read_the_bounds_hold_and_nobody_stops(
    steps: list[tuple[int, int]],
) -> None:
    budget = Budget()
    windows = [Window(budget) for _ in range(5)]
    arrived: list[list[int]] = [[] for _ in windows]
    for which, size in steps:
        window, chunks = windows[which], arrived[which]
        window.grant()
        nbytes = min(size, window.granted - CHUNK_COST)
        if nbytes > 0:
            assert window.arrived(nbytes)
            chunks.append(nbytes)
        elif chunks:
            window.read(chunks.pop(0), chunk=True)
        assert window.granted + window.unread <= MAX_WINDOW
        assert budget.free == BUDGET - sum(each.granted for each in windows)
    for window, chunks in zip(windows, arrived, strict=True):
        for nbytes in chunks:
            window.read(nbytes, chunk=True)
        window.grant()
        assert window.granted >= MIN_WINDOW // 2
        assert window.unread == 0


@given(
    st.lists(st.binary(min_size=1, max_size=5000), max_size=20),
    st.lists(st.integers(1, 9000), min_size=1),
    st.integers(100, 5000),
)
def test_what_is_sent_is_what_was_written(
    written: list[bytes], grants: list[int], most: int
) -> None:
    """In chunks that the broker takes, with no more than the credit."""
    sender, got, credit = Sender(0, most), bytearray(), 0
    for data in written:
        sender.add(data)
    for _ in range(200):
        for grant in grants:
            sender.credit += grant
            credit += grant
            while chunk := sender.take():
                assert len(chunk) <= most
                credit -= len(chunk) + CHUNK_COST
                got += chunk
            assert sender.credit == credit >= 0
    if sum(grants) * 200 > sum(map(len, written)) * (1 + CHUNK_COST / 100) + 5000:
        assert bytes(got) == b"".join(written)
        assert sender.size == 0


def test_a_chunk_of_a_large_write_copies_only_itself() -> None:
    """Copying the rest for each chunk would make a write's cost the square of its size."""
    sender = Sender(1_000_000, 1000)
    sender.add(b"first")
    sender.add(bytes(1_000_000))
    tracemalloc.start()
    try:
        for _ in range(3):
            assert len(sender.take()) == 1000
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()

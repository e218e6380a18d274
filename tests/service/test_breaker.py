"""When an address is left alone, and how much may be retried."""

from __future__ import annotations

import pytest

import tofu_aio as tofu
from tofu_aio.service.breaker import BUDGET, FAILURES, Breaker, RetryBudget

ERROR = tofu.PeerDisconnected("lost")


@pytest.fixture
def breaker() -> Breaker:
    """It waits for as long as it may."""
    return Breaker(tofu.Backoff(initial=1.0, random=lambda low, high: high))


def test_an_address_that_works_is_used(breaker: Breaker) -> None:
    assert breaker.until < 0


def test_one_that_cannot_be_connected_is_left_alone_at_once(breaker: Breaker) -> None:
    breaker.unreachable(ERROR, 100.0)
    assert breaker.until == 101.0
    assert breaker.reason == str(ERROR)


def test_the_time_grows_with_each_attempt_and_ends_with_a_success(breaker: Breaker) -> None:
    now = 100.0
    for pause in (1, 2, 4, 8, 16, 30, 30):
        breaker.unreachable(ERROR, now)
        assert breaker.until - now == pause
        now = breaker.until
    breaker.succeeded()
    assert breaker.until < now
    breaker.unreachable(ERROR, now)
    assert breaker.until - now == 1


def test_five_calls_in_a_row_open_it(breaker: Breaker) -> None:
    for _ in range(FAILURES - 1):
        breaker.failed(ERROR, 100.0)
        assert breaker.until < 100.0
    breaker.failed(ERROR, 100.0)
    assert breaker.until == 101.0


def test_a_success_between_them_starts_the_count_again(breaker: Breaker) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed(ERROR, 100.0)
        breaker.succeeded()
    assert breaker.until < 100.0


def test_a_hundred_calls_that_one_loss_has_failed_count_as_one_pause(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.failed(ERROR, 100.0)
    assert breaker.until == 101.0


def test_attempts_that_were_made_at_once_count_as_one_pause(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.unreachable(ERROR, 100.0)
    assert breaker.until == 101.0


def test_after_the_pause_one_failure_opens_it_again(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        breaker.failed(ERROR, 100.0)
    breaker.failed(ERROR, 102.0)
    assert breaker.until == 104.0


def test_a_budget_allows_ten_retries_and_then_one_in_ten_calls() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(int(BUDGET) + 1)] == [True] * 10 + [False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    for _ in range(2):  # one more than in exact numbers, for the rounding
        budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_no_more_than_ten_are_saved_up() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 10

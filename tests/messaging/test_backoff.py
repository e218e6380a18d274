"""How long to wait before trying again: a bound that grows, and chance below it."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tofu_aio as tofu


def test_the_bound_doubles_from_a_tenth_of_a_second_to_half_a_minute() -> None:
    bounds = [tofu.Backoff().bound(failures) for failures in range(12)]
    assert bounds == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


def test_it_grows_as_it_is_told() -> None:
    backoff = tofu.Backoff(initial=1, maximum=50, factor=3)
    assert [backoff.bound(failures) for failures in range(6)] == [1, 3, 9, 27, 50, 50]
    assert tofu.Backoff(factor=1).bound(1000) == 0.1


@pytest.mark.parametrize("failures", [1023, 1024, 10**9, 10**400])
def test_it_may_fail_for_ever(failures: int) -> None:
    assert tofu.Backoff().bound(failures) == 30.0


@given(failures=st.integers(0, 100), seed=st.integers())
def test_the_wait_is_anything_below_the_bound(failures: int, seed: int) -> None:
    backoff = tofu.Backoff(random=Random(seed).uniform)
    waits = [backoff.wait(failures) for _ in range(50)]
    bound = backoff.bound(failures)
    assert all(0 <= wait <= bound for wait in waits)
    assert max(waits) - min(waits) > bound / 4, "full jitter is spread over all of it"


def test_a_seed_makes_it_repeatable() -> None:
    one, other = (tofu.Backoff(random=Random(7).uniform) for _ in range(2))
    waits = [one.wait(failures) for failures in range(9)]
    assert waits == [other.wait(failures) for failures in range(9)]


@pytest.mark.parametrize(
    "limits",
    [
        {"initial": 0},
        {"initial": -1},
        {"initial": math.nan},
        {"maximum": math.inf},
        {"maximum": math.nan},
        {"initial": 2, "maximum": 1},
        {"factor": 0.5},
        {"factor": math.nan},
        {"factor": math.inf},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"waits .*cannot"):
        tofu.Backoff(**limits)  # type: ignore[arg-type]

"""How long to wait before trying again: a growing bound, and a random time below it."""

from __future__ import annotations

import math
from random import Random
from typing import Any

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
    ("wrong", "words"),
    [
        ({"initial": 0}, r"^initial is 0: give 0\.001 to 86400 seconds$"),
        ({"initial": -1}, "^initial is -1: give"),
        ({"initial": math.nan}, "^initial is nan: give"),
        ({"initial": math.inf}, "^initial is inf: give"),
        ({"maximum": math.inf}, "^maximum is inf: give 0.1 to 86400 seconds$"),
        ({"maximum": math.nan}, "^maximum is nan: give"),
        ({"initial": 2, "maximum": 1}, "^maximum is 1: give 2 to 86400 seconds$"),
        ({"factor": 0.5}, "^factor is 0.5: give 1 or more$"),
        ({"factor": -math.inf}, "^factor is -inf: give 1 or more$"),
        ({"factor": math.nan}, "^factor is nan: give"),
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tofu.Backoff(**wrong)


@pytest.mark.parametrize("wrong", ["1", True, None, [1]])
@pytest.mark.parametrize("name", ["initial", "maximum", "factor"])
def test_limits_are_numbers(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is .*, not a number: give .*\d"):
        tofu.Backoff(**{name: wrong})


def test_chance_is_a_function() -> None:
    with pytest.raises(TypeError, match=r"^random is 0\.5: give a function$"):
        tofu.Backoff(random=0.5)  # type: ignore[arg-type]


def test_it_may_grow_at_once_to_its_maximum() -> None:
    backoff = tofu.Backoff(factor=math.inf)
    assert [backoff.bound(failures) for failures in range(3)] == [0.1, 30.0, 30.0]

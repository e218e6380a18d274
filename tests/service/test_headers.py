"""The headers of a call: names, content types, and time-outs that make sense or do not."""

from __future__ import annotations

import math

import pytest

import tofu_aio as tofu
from tofu_aio.service.headers import TIMEOUT, of_outgoing, read, timed


def test_all_of_them_survive() -> None:
    told = read(timed(of_outgoing("resize", "application/json", (), ()), 1.5))
    assert told == ("resize", "application/json", 1.5, None)


def test_none_of_them_is_needed() -> None:
    assert read(tofu.TextHeaders()) == ("", "", None, None)


NONSENSE = ["", "soon", "-1", "1.5", "1e3", "+5", "1_000", "\u0663", "9" * 13, "9" * 5000, "0x10"]


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: text[:20])
def test_a_nonsensical_timeout_is_an_error_that_shows_it(text: str) -> None:
    told = read(tofu.TextHeaders({"call": "resize", "timeout-ms": text}))
    assert told.timeout is None
    assert told.error is not None
    assert told.error.code == "invalid_argument"
    assert str(told.error).startswith("invalid_argument: the header timeout-ms is ")
    assert len(str(told.error)) < 200


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("007", 0.007), ("9" * 12, 1e9)])
def test_sensible_ones(text: str, seconds: float) -> None:
    told = read(tofu.TextHeaders({"timeout-ms": text}))
    assert told.timeout == pytest.approx(seconds)
    assert told.error is None


@pytest.mark.parametrize(
    ("seconds", "sent"),
    [(None, None), (math.inf, None), (0.0, 0), (0.0001, 1), (1.5, 1500), (1e300, 10**12 - 1)],
)
def test_a_timeout_is_sent_rounded_up(seconds: float | None, sent: int | None) -> None:
    headers = timed(of_outgoing("resize", "", {"token": "s3cret"}, ()), seconds)
    assert headers.get(TIMEOUT) == (None if sent is None else str(sent))
    assert headers["token"] == "s3cret"


def test_long_headers_are_read_too() -> None:
    told = read(tofu.TextHeaders({"call": "resize", "extra": "x" * 10_000}))
    assert told.name == "resize"

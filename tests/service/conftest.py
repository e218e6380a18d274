"""What the tests of services share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.messaging.peers import RawServer
from tests.systems import heard_by_loop


@pytest.fixture(autouse=True)
def heard(watched: None, request: pytest.FixtureRequest) -> None:
    """In async tests, what the loop's exception handler is told fails the test."""
    if "nothing_left_behind" in request.fixturenames:
        request.getfixturevalue("nothing_goes_unheard")


@pytest.fixture
async def nothing_goes_unheard(nothing_left_behind: None) -> AsyncIterator[list[dict[str, Any]]]:
    heard = heard_by_loop()
    yield heard
    for _ in range(3):
        await asyncio.sleep(0)
    assert not heard, f"the loop heard of {heard}"


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    """What the library has logged as an error so far."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keep = Keep(logging.ERROR)
    logging.getLogger("tofu_aio").addHandler(keep)
    yield records
    logging.getLogger("tofu_aio").removeHandler(keep)


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A server that is no tofu peer, or not a good one."""
    with RawServer() as server:
        yield server


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients begin with the first address that they are given, instead of a random one."""
    monkeypatch.setattr("tofu_aio.service.endpoints.random.sample", lambda given, _: list(given))

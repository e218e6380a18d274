"""What the fault tests share: besides all that other tests watch, no timer may be left behind."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.faults.counting import COUNTS
from tests.messaging.conftest import listener, raw_server
from tests.systems import heard_by_loop
from tofu_aio.messaging.connection import agreements

__all__ = ["listener", "nothing_ticks", "pytest_terminal_summary", "raw_server"]

BEAT: Final = 0.1
"""Seconds between heartbeats: a silence is noticed in less than four of them."""


@pytest.fixture(autouse=True)
def watched_closely(request: pytest.FixtureRequest) -> None:
    """Watch each async test; the others have no loop, or several."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("nothing_ticks")


@pytest.fixture(autouse=True)
def clients_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for many heartbeats gets them: no test waits for seconds."""
    monkeypatch.setattr(agreements, "CLIENT_HEARTBEAT_MIN", BEAT)


@pytest.fixture
async def nothing_ticks(nothing_left_behind: None) -> AsyncIterator[None]:
    """After each async test: no timer that is still to come, and nothing in the loop's log."""
    loop: Any = asyncio.get_running_loop()
    heard = heard_by_loop()
    call_at = type(loop).call_at
    call_later = type(loop).call_later
    handles: list[asyncio.TimerHandle] = []

    def prune() -> None:
        # asyncio's timers run out up to a tick of the clock early, which on Windows is a long one.
        now = loop.time() + time.get_clock_info("monotonic").resolution
        handles[:] = [h for h in handles if not h.cancelled() and h.when() > now]

    def kept(handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
        if not hasattr(handle, "when"):
            return handle  # uvloop: due in half a millisecond or less is due next turn
        handles.append(handle)
        if len(handles) > 100:
            prune()
        return handle

    loop.call_at = lambda *args, **kw: kept(call_at(loop, *args, **kw))
    loop.call_later = lambda *args, **kw: kept(call_later(loop, *args, **kw))
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    assert not heard, f"the loop heard of {heard}"
    del loop.call_at, loop.call_later
    prune()
    assert not handles, f"timers left behind: {handles}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried."""
    for what, count in sorted(COUNTS.items()):
        terminalreporter.write_line(f"faults: {count} {what}")

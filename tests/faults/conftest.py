"""What the fault tests share: besides all that other tests watch, no timer may be left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.faults.counting import COUNTS
from tests.messaging.conftest import nothing_goes_unheard

__all__ = ["nothing_goes_unheard", "nothing_ticks", "pytest_terminal_summary"]


@pytest.fixture(autouse=True)
async def nothing_ticks(nothing_left_behind: None) -> AsyncIterator[None]:
    """After each async test: no timer that is still to come. Works on every loop."""
    loop: Any = asyncio.get_running_loop()
    call_at = type(loop).call_at
    call_later = type(loop).call_later
    handles: list[asyncio.TimerHandle] = []

    def prune() -> None:
        now = loop.time()
        handles[:] = [h for h in handles if not h.cancelled() and h.when() > now]

    def kept(handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
        handles.append(handle)
        if len(handles) > 100:
            prune()
        return handle

    loop.call_at = lambda *args, **kw: kept(call_at(loop, *args, **kw))
    loop.call_later = lambda *args, **kw: kept(call_later(loop, *args, **kw))
    yield
    await asyncio.sleep(0)
    del loop.call_at, loop.call_later
    prune()
    assert not handles, f"timers left behind: {handles}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried."""
    for what, count in sorted(COUNTS.items()):
        terminalreporter.write_line(f"faults: {count} {what}")

"""That this Python's asyncio still has the insides the reactor stands on."""

from __future__ import annotations

import asyncio
import collections
import inspect
from asyncio import base_events

import pytest


@pytest.fixture
def stock():
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


@pytest.mark.parametrize(
    "name",
    [
        "_csock",
        "_ssock",
        "_internal_fds",
        "_scheduled",
        "_timer_cancelled_count",
        "_clock_resolution",
        "_stopping",
        "_debug",
        "_current_handle",
        "_transports",
    ],
)
def test_the_attributes_are_there(stock, name):
    assert hasattr(stock, name)


@pytest.mark.parametrize(
    "name",
    [
        "_add_reader",
        "_add_writer",
        "_remove_reader",
        "_remove_writer",
        "_check_closed",
        "_make_self_pipe",
        "_process_events",
        "_process_self_data",
        "_read_from_self",
        "_run_once",
        "_write_to_self",
    ],
)
def test_the_methods_are_there(stock, name):
    assert inspect.ismethod(getattr(stock, name))


def test_due_callbacks_are_handles_in_a_deque(stock):
    handle = stock.call_soon(print)
    assert isinstance(stock._ready, collections.deque)
    assert stock._ready[0] is handle
    assert handle._cancelled is False
    assert handle._callback is print
    assert callable(handle._run)


def test_timers_are_a_heap_of_handles_with_their_time(stock):
    timer = stock.call_at(12.5, print)
    assert stock._scheduled == [timer]
    assert timer._when == 12.5
    assert timer._scheduled is True
    timer.cancel()
    assert stock._timer_cancelled_count == 1


def test_slow_callbacks_are_named_and_logged_by_base_events():
    assert callable(base_events._format_handle)
    assert base_events.logger.name == "asyncio"


def test_the_instance_stays_small_enough_for_fast_attributes():
    # What the comment in `Loop.__init__` counts on.
    from tofu_aio.reactor import Loop

    loop = Loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon_threadsafe(print)
    count = len(vars(loop))
    loop.close()
    assert count <= 30

"""That this Python's asyncio still has the insides the reactor stands on."""

from __future__ import annotations

import asyncio
import collections
import inspect
import socket
import sys
from asyncio import base_events, selector_events

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


@pytest.mark.parametrize(
    "name",
    [
        "_add_reader",
        "_call_connection_lost",
        "_fatal_error",
        "_force_close",
        "_make_empty_waiter",
        "_maybe_pause_protocol",
        "_maybe_resume_protocol",
        "_read_ready__on_eof",
        "_reset_empty_waiter",
    ],
)
def test_the_methods_of_a_socket_s_transport_are_there(name):
    assert inspect.isfunction(getattr(selector_events._SelectorSocketTransport, name))


def test_the_attributes_of_a_socket_s_transport_are_there(stock):
    ours, peer = socket.socketpair()
    transport = stock._make_socket_transport(ours, asyncio.Protocol())
    assert transport._loop is stock
    assert transport._sock is ours
    assert transport._sock_fd == ours.fileno()
    assert transport._closing is False
    assert transport._conn_lost == 0
    assert transport._eof is False
    assert transport._empty_waiter is None
    assert not transport._protocol_paused
    assert not transport._buffer
    stock.run_until_complete(asyncio.sleep(0))
    transport.abort()
    assert transport._conn_lost == 1
    stock.run_until_complete(asyncio.sleep(0))
    assert transport._loop is None
    peer.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("_make_socket_transport", ["sock", "protocol", "waiter"]),
        ("_make_ssl_transport", ["rawsock", "protocol", "sslcontext", "waiter"]),
        ("_make_datagram_transport", ["sock", "protocol", "address", "waiter", "extra"]),
        ("_make_write_pipe_transport", ["pipe", "protocol", "waiter", "extra"]),
        ("_sendfile_native", ["transp", "file", "offset", "count"]),
        ("_ensure_fd_no_transport", ["fd"]),
    ],
)
def test_transports_are_made_from_what_they_were_made_from(stock, name, options):
    parameters = inspect.signature(getattr(stock, name)).parameters.values()
    assert [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD] == options


@pytest.mark.parametrize("name", ["_sendto_ready", "_force_close", "_call_connection_lost"])
def test_the_methods_of_a_datagram_transport_are_there(name):
    assert inspect.isfunction(getattr(selector_events._SelectorDatagramTransport, name))


@pytest.mark.skipif(sys.platform == "win32", reason="a selector loop has no pipes there")
def test_the_methods_of_a_pipe_s_transport_are_there():
    from asyncio import unix_events

    assert inspect.isfunction(unix_events._UnixWritePipeTransport._call_connection_lost)


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

"""What is relied on of asyncio's private names: an item for each, which this Python has or not."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import inspect
import logging
import platform
import socket
import ssl
import sys
import threading
from asyncio import sslproto
from collections.abc import Callable
from unittest import mock

import pytest

from tofu_aio.reactor import Loop

Check = Callable[[asyncio.SelectorEventLoop], None]

ITEMS: dict[str, list[tuple[str, Check]]] = {}


def relied_on(name: str, what: str) -> Callable[[Check], Check]:
    """Say what is relied on; the function fails where that is no longer so."""

    def add(check: Check) -> Check:
        ITEMS.setdefault(name, []).append((what, check))
        return check

    return add


def check(name: str, make_loop: Callable[[], asyncio.SelectorEventLoop]) -> None:
    """Fail with a sentence that names what has changed."""
    for what, holds in ITEMS[name]:
        loop = make_loop()
        try:
            holds(loop)
        except Exception as change:
            pytest.fail(
                f"Python {platform.python_version()} has changed asyncio's {name}. The reactor"
                f" relies on this: {what}. What changed: {type(change).__name__}:"
                f" {str(change).partition(chr(10))[0]}",
                pytrace=False,
            )
        finally:
            loop.close()


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


class Protocol(asyncio.Protocol):
    """One whose methods can be replaced."""


def connected(loop):
    """A transport of the loop's, and the other end of its socket."""
    left, right = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(Protocol, sock=left))
    return transport, right


# Callbacks.


@relied_on("_cancelled", "an attribute of a handle, true once it is cancelled")
def _(loop):
    for handle in (
        loop.call_soon(print),
        loop.call_later(9, print),
        asyncio.Handle(print, (), loop),
    ):
        assert handle._cancelled is False
        handle.cancel()
        assert handle._cancelled is True


@relied_on("_callback", "what a handle calls, and None once it is cancelled")
def _(loop):
    for handle in (
        loop.call_soon(print),
        loop.call_soon_threadsafe(print),
        loop.call_later(9, print),
    ):
        assert handle._callback is print
        handle.cancel()
        assert handle._callback is None


@relied_on("_run", "it calls the callback of a handle, in its context, and reports what it raises")
def _(loop):
    seen, context = [], contextvars.Context()
    contextvars_seen = contextvars.ContextVar("seen", default=False)
    context.run(contextvars_seen.set, True)
    asyncio.Handle(lambda x: seen.append((x, contextvars_seen.get())), (1,), loop, context)._run()
    assert seen == [(1, True)], f"called with {seen}"
    loop.set_exception_handler(lambda _, reported: seen.append(type(reported["exception"])))
    asyncio.Handle(lambda: 1 / 0, (), loop, None)._run()
    assert seen[1:] == [ZeroDivisionError], f"reported {seen[1:]}"


@relied_on("_source_traceback", "None, or in debug mode a list, whose last line made the handle")
def _(loop):
    loop.set_debug(False)
    assert asyncio.Handle(print, (), loop, None)._source_traceback is None
    loop.set_debug(True)
    with mock.patch("asyncio.constants.DEBUG_STACK_DEPTH", 10):
        handle = loop.call_soon(print)
    assert handle._source_traceback[-1].filename == __file__
    del handle._source_traceback[-1]


@relied_on("_when", "the time of a timer, as `when` returns it")
def _(loop):
    assert loop.call_at(12.5, print)._when == 12.5


@relied_on(
    "_scheduled", "timers in a heap, each of which says by the same name that it is in there"
)
def _(loop):
    late, early = loop.call_at(12.5, print), loop.call_at(2.5, print)
    assert loop._scheduled == [early, late]
    assert late._scheduled is True
    assert early < late


@relied_on("_timer_cancelled_count", "how many timers in the heap are cancelled")
def _(loop):
    timer = loop.call_at(12.5, print)
    timer.cancel()
    assert loop._timer_cancelled_count == 1
    unscheduled = loop.call_at(12.5, print)
    unscheduled._scheduled = False
    unscheduled.cancel()
    assert loop._timer_cancelled_count == 1, "one that has left the heap counts"


# Turns.


@relied_on("_ready", "what is due waits in a deque, in order, whoever put it there")
def _(loop):
    handles = [loop.call_soon(print), loop.call_soon_threadsafe(print)]
    assert type(loop._ready) is collections.deque
    assert list(loop._ready) == handles


@relied_on("_clock_resolution", "seconds, by which timers are due early")
def _(loop):
    assert 0 < loop._clock_resolution < 0.1


@relied_on("_stopping", "true from `stop` to the end of the turn")
def _(loop):
    assert loop._stopping is False
    loop.stop()
    assert loop._stopping is True
    loop.run_forever()
    assert loop._stopping is False


@relied_on("_closed", "what `is_closed` returns")
def _(loop):
    assert loop._closed is False
    loop.close()
    assert loop._closed is True


@relied_on("_debug", "what `get_debug` returns")
def _(loop):
    for debug in (True, False):
        loop.set_debug(debug)
        assert loop._debug is debug


@relied_on("_current_handle", "what the default exception handler names as being run")
def _(loop):
    assert loop._current_handle is None
    assert "_current_handle" in asyncio.BaseEventLoop.default_exception_handler.__code__.co_names


@relied_on("base_events.logger", 'the logger "asyncio"')
def _(loop):
    assert asyncio.base_events.logger is logging.getLogger("asyncio")


@relied_on("_check_closed", "it raises RuntimeError on a closed loop")
def _(loop):
    loop._check_closed()
    loop.close()
    with pytest.raises(RuntimeError):
        loop._check_closed()


@relied_on("_run_once", "`run_forever` calls it, without arguments, until `stop` was called")
def _(loop):
    turns = []
    loop._run_once = lambda *given: (turns.append(given), len(turns) == 3 and loop.stop())
    loop.run_forever()
    assert turns == [(), (), ()], f"called with {turns}"


# The self-pipe.


@relied_on("_ssock", "the end of the self-pipe that is read; None once the loop is closed")
def _(loop):
    loop._ssock.fileno()
    loop.close()
    assert loop._ssock is None


@relied_on("_csock", "the end of the self-pipe that is written; None once the loop is closed")
def _(loop):
    loop._csock.send(b"\0")
    assert loop._ssock.recv(2) == b"\0"
    loop.close()
    assert loop._csock is None


@relied_on(
    "_internal_fds", "how many readers are asyncio's own; closing the self-pipe takes one off"
)
def _(loop):
    assert loop._internal_fds == 1
    loop._close_self_pipe()
    assert loop._internal_fds == 0
    loop._make_self_pipe()


@relied_on("_make_self_pipe", "it makes both ends and watches one, whatever was there before")
def _(loop):
    before = loop._ssock, loop._csock
    loop._make_self_pipe()
    assert loop._internal_fds == 2
    assert loop._ssock.fileno() in loop._selector.get_map()
    loop._remove_reader(before[0].fileno())
    loop._internal_fds -= 1
    for sock in before:
        sock.close()


@relied_on("_read_from_self", "it is called when the self-pipe can be read")
def _(loop):
    read = []
    loop._close_self_pipe()
    loop._read_from_self = lambda *given: (read.append(given), loop._ssock.recv(9), loop.stop())
    loop._make_self_pipe()
    loop._csock.send(b"\0")
    loop.run_forever()
    assert read == [()], f"called with {read}"


@relied_on("_write_to_self", "`call_soon_threadsafe` calls it once its call is in the queue")
def _(loop):
    written = []
    loop._write_to_self = lambda *given: written.append((given, len(loop._ready)))
    loop.call_soon_threadsafe(print)
    assert written == [((), 1)], f"called with {written}"


@relied_on(
    "_process_self_data", "it takes what was read from the self-pipe: a byte for each signal"
)
def _(loop):
    loop._process_self_data(b"\0")


@relied_on("_signal_handlers", "true if, and only if, signals come through the self-pipe")
def _(loop):
    if sys.platform != "win32":
        assert not loop._signal_handlers
        loop.add_signal_handler(10, print)
        assert loop._signal_handlers


# Descriptors.


@relied_on(
    "_transports", "open transports of sockets by descriptor, weakly, until they close theirs"
)
def _(loop):
    transport, peer = connected(loop)
    with peer:
        fd = transport.get_extra_info("socket").fileno()
        assert loop._transports[fd] is transport
        assert "Weak" in type(loop._transports).__name__
        transport.close()
        turn(loop)
        turn(loop)


def watching(name):
    """Check that transports and `add_reader` and its like come through the method."""

    def holds(loop):
        calls = []
        add = getattr(loop, name)
        setattr(
            loop, name, lambda *given, **more: (calls.append((given, more)), add(*given, **more))[1]
        )
        transport, peer = connected(loop)
        with peer:
            transport.pause_reading()
            transport.resume_reading()
            fill(transport)
            transport.abort()
            turn(loop)
            turn(loop)
        assert calls, "transports do not call it"
        before = len(calls)
        getattr(loop, name[1:])(loop._csock, *([print] if "add" in name else []))
        assert len(calls) > before, f"{name[1:]} does not call it"
        for given, more in calls:
            inspect.signature(getattr(Loop, name)).bind(None, *given, **more)
        unknown = {keyword for _, more in calls for keyword in more} - {"context"}
        assert not unknown, f"it is called with {unknown}, which is left to asyncio's own method"

    return holds


for _name in ("_add_reader", "_add_writer", "_remove_reader", "_remove_writer"):
    relied_on(_name, "all that watch a descriptor come through it, with a context at most")(
        watching(_name)
    )


# Others than the reactor rely on these.


@relied_on("_callbacks", "those of a future, with their contexts, until `remove_done_callback`")
def _(loop):
    future = loop.create_future()
    assert not future._callbacks
    future.add_done_callback(print)
    [(callback, context)] = future._callbacks
    assert callback is print
    assert isinstance(context, contextvars.Context)
    future.remove_done_callback(print)
    assert not future._callbacks


@relied_on("_fut_waiter", "the future that a task awaits")
def _(loop):
    async def wait():
        await future

    future = loop.create_future()
    task = loop.create_task(wait())
    turn(loop)
    assert task._fut_waiter is future
    future.set_result(None)
    loop.run_until_complete(task)


@relied_on("_children", "those that `gather` waits for, of its future")
def _(loop):
    future = loop.create_future()
    assert asyncio.gather(future)._children == [future]


@relied_on(
    "_start_serving", "a server's sockets are watched by it, with a factory and a socket first"
)
def _(loop):
    served = []
    loop._start_serving = lambda *given, **more: served.append(given)
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    assert served[0][0] is asyncio.Protocol
    assert served[0][1].fileno() == server.sockets[0].fileno()
    server.close()
    turn(loop)


@relied_on("_close_self_pipe", "it closes both ends, and watches them no more")
def _(loop):
    loop._close_self_pipe()
    assert (loop._ssock, loop._csock) == (None, None)
    assert not loop._selector.get_map()
    loop._make_self_pipe()


# Transports.


def on_a_transport(name, what):
    """As `relied_on`, of the transport of a stream socket, whose peer never reads."""

    def add(holds):
        @relied_on(name, what)
        def _(loop):
            transport, peer = connected(loop)
            with peer:
                try:
                    holds(loop, transport)
                finally:
                    transport.abort()
                    turn(loop)
                    turn(loop)

        return holds

    return add


def fill(transport):
    while not transport.get_write_buffer_size():
        transport.write(bytes(1 << 16))


@relied_on(
    "_ensure_fd_no_transport", "it raises RuntimeError where an open transport has the socket"
)
def _(loop):
    transport, peer = connected(loop)
    with peer:
        loop._ensure_fd_no_transport(peer)
        with pytest.raises(RuntimeError):
            loop._ensure_fd_no_transport(transport.get_extra_info("socket"))
        transport.abort()
        turn(loop)


@on_a_transport("_loop", "the loop of a transport, and None once `connection_lost` was called")
def _(loop, transport):
    assert transport._loop is loop
    transport.abort()
    turn(loop)
    assert transport._loop is None


@on_a_transport("_sock", "the socket of a transport, and None once `connection_lost` was called")
def _(loop, transport):
    assert transport._sock.fileno() == transport.get_extra_info("socket").fileno()
    transport.abort()
    turn(loop)
    assert transport._sock is None


@on_a_transport("_sock_fd", "the descriptor of a transport's socket")
def _(loop, transport):
    assert transport._sock_fd == transport.get_extra_info("socket").fileno()


@on_a_transport("_buffer", "false if, and only if, nothing waits to be written")
def _(loop, transport):
    assert not transport._buffer
    fill(transport)
    assert transport._buffer
    transport.abort()
    assert not transport._buffer


@on_a_transport("_buffer_size", "how many bytes wait to be written, if there is such a number")
def _(loop, transport):
    if hasattr(transport, "_buffer_size"):
        fill(transport)
        assert transport._buffer_size == transport.get_write_buffer_size()


@on_a_transport("_closing", "what `is_closing` returns")
def _(loop, transport):
    assert transport._closing is False
    transport.close()
    assert transport._closing is True


@on_a_transport("_conn_lost", "above 0 once `connection_lost` is to be called")
def _(loop, transport):
    assert transport._conn_lost == 0
    transport.abort()
    assert transport._conn_lost > 0


@on_a_transport("_eof", "true once `write_eof` was called")
def _(loop, transport):
    assert transport._eof is False
    transport.write_eof()
    assert transport._eof is True


@on_a_transport("_empty_waiter", "None, or the future of `_make_empty_waiter`")
def _(loop, transport):
    assert transport._empty_waiter is None
    fill(transport)
    waiter = transport._make_empty_waiter()
    assert transport._empty_waiter is waiter
    waiter.cancel()
    transport._reset_empty_waiter()


@on_a_transport("_make_empty_waiter", "a future that is done once nothing waits to be written")
def _(loop, transport):
    assert transport._make_empty_waiter().done()
    transport._reset_empty_waiter()


@on_a_transport("_reset_empty_waiter", "it takes `_empty_waiter` back")
def _(loop, transport):
    transport._make_empty_waiter()
    transport._reset_empty_waiter()
    assert transport._empty_waiter is None


@on_a_transport("_protocol_paused", "true between `pause_writing` and `resume_writing`")
def _(loop, transport):
    assert transport._protocol_paused is False
    transport._protocol.pause_writing = lambda: None
    transport.set_write_buffer_limits(0)
    fill(transport)
    assert transport._protocol_paused is True


@on_a_transport("_maybe_pause_protocol", "it calls `pause_writing` where too much waits, once")
def _(loop, transport):
    called = transport._protocol.pause_writing = mock.Mock()
    fill(transport)
    transport.set_write_buffer_limits(0)
    transport._maybe_pause_protocol()
    transport._maybe_pause_protocol()
    called.assert_called_once_with()


@on_a_transport("_maybe_resume_protocol", "it calls `resume_writing` where little waits, once")
def _(loop, transport):
    called = transport._protocol.resume_writing = mock.Mock()
    transport._protocol_paused = True
    transport._maybe_resume_protocol()
    transport._maybe_resume_protocol()
    called.assert_called_once_with()


@on_a_transport("_add_reader", "a transport watches its socket by it unless it was paused")
def _(loop, transport):
    transport.pause_reading()
    transport._add_reader(transport._sock_fd, print)
    assert transport._sock_fd not in loop._selector.get_map()


@on_a_transport("_read_ready__on_eof", "it is called, without arguments, when the peer has ended")
def _(loop, transport):
    called = transport._read_ready__on_eof = mock.Mock(side_effect=loop.stop)
    with mock.patch.object(transport, "_sock", mock.Mock(recv=lambda _: b"")):
        transport._read_ready()
    called.assert_called_once_with()
    loop.run_forever()


@on_a_transport(
    "_fatal_error", "it takes an error and a text, and ends the transport with the error"
)
def _(loop, transport):
    ended = transport._protocol.connection_lost = mock.Mock()
    error = BrokenPipeError()
    transport._fatal_error(error, "a text")
    turn(loop)
    ended.assert_called_once_with(error)


@on_a_transport("_force_close", "it drops what waits, and ends the transport with an error or None")
def _(loop, transport):
    ended = transport._protocol.connection_lost = mock.Mock()
    fill(transport)
    transport._force_close(None)
    assert not transport._buffer
    turn(loop)
    ended.assert_called_once_with(None)


@on_a_transport(
    "_call_connection_lost", "called once, with an error or None, it calls the protocol"
)
def _(loop, transport):
    ended = transport._protocol.connection_lost = mock.Mock()
    called = mock.Mock(side_effect=transport._call_connection_lost)
    transport._call_connection_lost = called
    transport.close()
    turn(loop)
    called.assert_called_once_with(None)
    ended.assert_called_once_with(None)


@relied_on("_sendto_ready", "it sends what waits of a datagram transport, without arguments")
def _(loop):
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there.bind(("127.0.0.1", 0))
    making = loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=there.getsockname()
    )
    transport, _ = loop.run_until_complete(making)
    transport._buffer.append((b"waits", None))
    transport._sendto_ready()
    assert not transport._buffer
    with there:
        assert there.recv(9) == b"waits"
    transport.abort()
    turn(loop)


# TLS.


@relied_on("_app_transport", "what the program's protocol writes to, from the layer's making on")
def _(loop):
    there = loop.create_future()
    layer = sslproto.SSLProtocol(loop, Protocol(), ssl.create_default_context(), there, False, "x")
    assert isinstance(layer._app_transport, asyncio.Transport)
    layer._app_transport._closed = True  # it was never connected, and has nothing to close
    there.cancel()


# Servers, threads and forks.


@relied_on("_accept_connection", "a server's socket calls it, with a factory and a socket first")
def _(loop):
    accepted = []
    loop._accept_connection = lambda *given, **more: (accepted.append(given), loop.stop())
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    with socket.create_connection(server.sockets[0].getsockname()):
        loop.run_forever()
        assert accepted[0][0] is asyncio.Protocol
        assert accepted[0][1].fileno() == server.sockets[0].fileno()
    server.close()
    turn(loop)


@relied_on("_thread_id", "the identifier of the thread in which the loop runs, or None")
def _(loop):
    seen = []
    assert loop._thread_id is None
    loop.call_soon(lambda: seen.append(loop._thread_id))
    turn(loop)
    assert seen == [threading.get_ident()]


@relied_on("_default_executor", "None until `run_in_executor` needs one")
def _(loop):
    assert loop._default_executor is None
    loop.run_until_complete(loop.run_in_executor(None, int))
    assert loop._default_executor is not None
    loop.run_until_complete(loop.shutdown_default_executor())

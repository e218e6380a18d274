"""Everything private that the reactor takes from asyncio: what it uses, and what it replaces.

All of it is the same in Python 3.11 to 3.15, but for keywords that were added, see `_add_reader`.
`tests/reactor/test_selector_loop.py` has a test for each item, which says what changed when a newer
Python changes it, and finds what is used and not listed here.

Not private by its name is `asyncio.base_events.logger`, the logger "asyncio" where asyncio's tests
replace it.

Beyond the reactor there are few: `messaging/waking.py` looks at a future's `_callbacks`, and goes
the public way where there are none; and `testing` replaces some of the stock loop, the self-pipe
and `_start_serving`, and tells who waits for what by `_fut_waiter` and `_children`. The same tests
know of them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Protocol, TypeVarTuple, Unpack

if TYPE_CHECKING:
    import socket
    from collections import deque
    from collections.abc import Callable, MutableMapping
    from contextvars import Context

    Args = TypeVarTuple("Args")

    class ReadyHandle(Protocol):
        """A callback that is due: asyncio's `Handle` and `TimerHandle`."""

        # Asked of each callback in each turn, so not by `cancelled`, which is a call.
        _cancelled: bool
        # None once it was cancelled.
        _callback: object
        # In debug mode where it was made, the last line first to be taken off; else None.
        _source_traceback: list[object] | None

        def _run(self) -> None: ...

    class ScheduledHandle(ReadyHandle, Protocol):
        """A callback with a time, ordered by it: asyncio's `TimerHandle`."""

        # As `when` returns it.
        _when: float
        # Whether it is in the heap, so that cancelling it counts.
        _scheduled: bool

        def __lt__(self, other: ScheduledHandle, /) -> bool: ...

    class SelectorLoop(asyncio.SelectorEventLoop):
        """asyncio's selector loop, with the names that the reactor uses or replaces."""

        # The self-pipe: what is written to the second wakes the select on the first, whose reader
        # is `_read_from_self`. None, and so without attributes, once the loop is closed.
        _ssock: socket.socket
        _csock: socket.socket
        # How many readers are asyncio's own; making a self-pipe adds one.
        _internal_fds: int
        # On Unix, by signal; Windows' loop has none.
        _signal_handlers: dict[int, asyncio.Handle]

        # What is due, in order; what has a time, as a heap; and how much of that is cancelled.
        _ready: deque[ReadyHandle]
        _scheduled: list[ScheduledHandle]
        _timer_cancelled_count: int
        # Timers are due this much early: the clock says no better.
        _clock_resolution: float
        _stopping: bool
        _closed: bool
        # Which thread runs it, and where `run_in_executor` runs what it is given. None for none.
        _thread_id: int | None
        _default_executor: object

        _debug: bool
        # What runs now, for the exception handler to name in debug mode.
        _current_handle: ReadyHandle | None

        # Open transports of sockets by descriptor, weakly.
        _transports: MutableMapping[int, asyncio.BaseTransport]

        def _check_closed(self) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        # What came through the self-pipe: a byte for each signal that has a handler.
        def _process_self_data(self, data: bytes, /) -> None: ...

        # Replaced: `run_forever` calls the first for each turn; what comes from other threads and
        # signals calls the second, and the self-pipe's reader is the third.
        def _run_once(self) -> None: ...
        def _write_to_self(self) -> None: ...
        def _read_from_self(self) -> None: ...

        # Replaced: all that watch a descriptor come through these. Python 3.15 added the context.
        # `asyncio.Handle(callback, args, loop, context)` is what the first two return.
        def _add_reader(
            self,
            fd: int,
            callback: Callable[[Unpack[Args]], object],
            *args: *Args,
            context: Context | None = None,
            **unknown: object,
        ) -> asyncio.Handle: ...
        def _add_writer(
            self,
            fd: int,
            callback: Callable[[Unpack[Args]], object],
            *args: *Args,
            context: Context | None = None,
            **unknown: object,
        ) -> asyncio.Handle: ...
        def _remove_reader(self, fd: int, /) -> bool: ...
        def _remove_writer(self, fd: int, /) -> bool: ...

        # Of servers. What they are given beside this differs among the Pythons.
        def _start_serving(
            self, protocol_factory: object, sock: socket.socket, *rest: object, **options: object
        ) -> None: ...
        def _accept_connection(
            self, protocol_factory: object, sock: socket.socket, *rest: object, **options: object
        ) -> None: ...

        # Raises RuntimeError where an open transport has the descriptor.
        def _ensure_fd_no_transport(self, sock: object, /) -> None: ...

    class TlsLayer:
        """asyncio's TLS, between a socket's transport and the program's protocol."""

        # What the program's protocol writes to, there as soon as the layer is.
        _app_transport: asyncio.Transport

    class FlowControl:
        """What pauses and resumes a protocol, for asyncio's transports that write."""

        _protocol_paused: bool

        def _maybe_pause_protocol(self) -> None: ...
        def _maybe_resume_protocol(self) -> None: ...

    class SocketTransportBase(FlowControl, asyncio.Transport):
        """asyncio's transport of a stream socket, with what the reactor uses or replaces.

        Its sending half, `_buffer` and `_write_ready`, differs from Python to Python and is not
        used, but for this: `close`, `_force_close` and `write_eof` look whether `_buffer` is empty,
        and `_force_close` clears it.
        """

        # All three None once `connection_lost` was called.
        _loop: SelectorLoop
        _sock: socket.socket
        _sock_fd: int

        _buffer: deque[memoryview]
        _buffer_size: int  # From Python 3.15; the reactor's own before.
        _closing: bool
        # Above 0 once `connection_lost` is to be called, or was: nothing is written any more.
        _conn_lost: int
        _eof: bool  # Of what is written.
        # Who waits, in `loop.sendfile`, until the buffer is empty. Nothing is written meanwhile.
        _empty_waiter: asyncio.Future[None] | None

        def __init__(
            self,
            loop: asyncio.AbstractEventLoop,
            sock: socket.socket,
            protocol: asyncio.BaseProtocol,
            **options: object,
        ) -> None: ...
        def _add_reader(
            self, fd: int, callback: Callable[[Unpack[Args]], object], *args: *Args
        ) -> None: ...

        # From Python 3.15, with the transport's context; the reactor's own before.
        def _add_writer(
            self, fd: int, callback: Callable[[Unpack[Args]], object], *args: *Args
        ) -> None: ...

        def _read_ready__on_eof(self) -> None: ...
        def _fatal_error(self, exc: BaseException, message: str) -> None: ...
        def _force_close(self, exc: BaseException | None) -> None: ...
        def _call_connection_lost(self, exc: Exception | None) -> None: ...
        def _make_empty_waiter(self) -> asyncio.Future[None]: ...
        def _reset_empty_waiter(self) -> None: ...

    class DatagramTransportBase(FlowControl, asyncio.DatagramTransport):
        """asyncio's transport of a datagram socket, with what the reactor uses or replaces."""

        _loop: SelectorLoop | None
        _buffer: deque[tuple[bytes, object]]
        _buffer_size: int

        def __init__(
            self,
            loop: asyncio.AbstractEventLoop,
            sock: socket.socket,
            protocol: asyncio.BaseProtocol,
            **options: object,
        ) -> None: ...
        def _sendto_ready(self) -> None: ...
        def _force_close(self, exc: BaseException | None) -> None: ...
        def _call_connection_lost(self, exc: Exception | None) -> None: ...

    class WritePipeTransportBase(FlowControl, asyncio.WriteTransport):
        """asyncio's transport of a pipe's writing end, with what the reactor uses or replaces."""

        _loop: SelectorLoop | None

        def __init__(
            self,
            loop: asyncio.AbstractEventLoop,
            pipe: object,
            protocol: asyncio.BaseProtocol,
            **options: object,
        ) -> None: ...
        def _call_connection_lost(self, exc: Exception | None) -> None: ...

else:
    from asyncio import selector_events

    SelectorLoop = asyncio.SelectorEventLoop
    SocketTransportBase = selector_events._SelectorSocketTransport
    DatagramTransportBase = selector_events._SelectorDatagramTransport
    if sys.platform == "win32":
        WritePipeTransportBase = object  # A selector loop has no pipes there.
    else:
        from asyncio import unix_events

        WritePipeTransportBase = unix_events._UnixWritePipeTransport

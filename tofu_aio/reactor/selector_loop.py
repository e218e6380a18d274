"""The private names of asyncio that the reactor uses or replaces.

All of them are the same in Python 3.11 to 3.15, except for keywords that were added: see
`_add_reader`. `tests/reactor/test_selector_loop.py` has a test for each name. If a newer Python
changes one, its test says what has changed. Another test finds names that are used but not listed
here.

One name is not private but undocumented: `asyncio.base_events.logger`, the logger "asyncio", which
asyncio's own tests replace there.

Outside the reactor there are few. `messaging/waking.py` looks at `_callbacks` of a future, and uses
the public interface if there are none. `testing` replaces the self-pipe and `_start_serving` of
the standard loop, and finds out what each task waits for by `_fut_waiter` and `_children`. The
same tests cover these.
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

        # Read for each callback in each turn, and so not by `cancelled`, which is a call.
        _cancelled: bool
        # None once the handle was cancelled.
        _callback: object
        # In debug mode the stack on which the handle was made, outermost frame first; else None.
        _source_traceback: list[object] | None

        def _run(self) -> None: ...

    class ScheduledHandle(ReadyHandle, Protocol):
        """A callback with a time, and ordered by it: asyncio's `TimerHandle`."""

        # The time, as `when` returns it.
        _when: float
        # Whether the handle is in the heap, so that its cancellation is counted.
        _scheduled: bool

        def __lt__(self, other: ScheduledHandle, /) -> bool: ...

    class SelectorLoop(asyncio.SelectorEventLoop):
        """asyncio's selector loop, with the names that the reactor uses or replaces."""

        # The self-pipe: a byte written to the second socket ends a `select` on the first, whose
        # reader is `_read_from_self`. Both are None once the loop is closed.
        _ssock: socket.socket
        _csock: socket.socket
        # The number of readers that belong to asyncio itself. Making a self-pipe adds one.
        _internal_fds: int
        # By signal number. The loop on Windows does not have this attribute.
        _signal_handlers: dict[int, asyncio.Handle]

        # Callbacks that are due, in order; timers, as a heap; and the number of cancelled timers.
        _ready: deque[ReadyHandle]
        _scheduled: list[ScheduledHandle]
        _timer_cancelled_count: int
        # Timers are due early by this much, because the clock is not more precise.
        _clock_resolution: float
        _stopping: bool
        _closed: bool
        # The thread that runs the loop and the executor of `run_in_executor`, or None.
        _thread_id: int | None
        _default_executor: object

        _debug: bool
        # The callback that runs now. In debug mode the exception handler names it.
        _current_handle: ReadyHandle | None

        # Open transports of sockets by descriptor, as weak references.
        _transports: MutableMapping[int, asyncio.BaseTransport]

        def _check_closed(self) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        # Called with the bytes from the self-pipe, one for each signal that has a handler.
        def _process_self_data(self, data: bytes, /) -> None: ...

        # Replaced. `run_forever` calls the first one in each turn, calls from other threads and
        # signals lead to the second one, and the third one is the reader of the self-pipe.
        def _run_once(self) -> None: ...
        def _write_to_self(self) -> None: ...
        def _read_from_self(self) -> None: ...

        # Replaced. Everything that watches a descriptor uses these. Python 3.15 added the context.
        # The first two return `asyncio.Handle(callback, args, loop, context)`.
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

        # For servers. The other arguments depend on the version of Python.
        def _start_serving(
            self, protocol_factory: object, sock: socket.socket, *rest: object, **options: object
        ) -> None: ...
        def _accept_connection(
            self, protocol_factory: object, sock: socket.socket, *rest: object, **options: object
        ) -> None: ...

        # Raises RuntimeError if an open transport uses the descriptor.
        def _ensure_fd_no_transport(self, sock: object, /) -> None: ...

    class TlsLayer:
        """asyncio's TLS layer, between the socket's transport and the program's protocol."""

        # The transport that the protocol of the program gets. It exists from the start.
        _app_transport: asyncio.Transport

    class FlowControl:
        """The flow control of asyncio's transports, which pauses and resumes the protocol."""

        _protocol_paused: bool

        def _maybe_pause_protocol(self) -> None: ...
        def _maybe_resume_protocol(self) -> None: ...

    class SocketTransportBase(FlowControl, asyncio.Transport):
        """asyncio's transport of a stream socket, with what the reactor uses or replaces.

        Its sending half, `_buffer` and `_write_ready`, depends on the version of Python and is not
        used. But `close`, `_force_close` and `write_eof` test whether `_buffer` is empty, and
        `_force_close` clears it.
        """

        # All three are None once `connection_lost` was called.
        _loop: SelectorLoop
        _sock: socket.socket
        _sock_fd: int

        _buffer: deque[memoryview]
        _buffer_size: int  # asyncio's since Python 3.15, the reactor's own before.
        _closing: bool
        # Above 0 once `connection_lost` was called or scheduled: nothing is written any more.
        _conn_lost: int
        _eof: bool  # `write_eof` was called.
        # With this, `loop.sendfile` waits until the buffer is empty. Nothing is written meanwhile.
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

        # asyncio's since Python 3.15, with the context of the transport; the reactor's own before.
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
        """asyncio's transport of a pipe's write end, with what the reactor uses or replaces."""

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
        WritePipeTransportBase = object  # A selector loop on Windows has no pipes.
    else:
        from asyncio import unix_events

        WritePipeTransportBase = unix_events._UnixWritePipeTransport

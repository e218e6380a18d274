"""What of asyncio's selector loop, beyond its documentation, the reactor's loop stands on.

Every name here is private to asyncio, the same in Python 3.11 to 3.14, and gone through by
CPython's own tests when they run on our loop. A Python that changes one fails there, not at users.
"""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Protocol, TypeVarTuple, Unpack

if TYPE_CHECKING:
    import socket
    from collections import deque
    from collections.abc import Callable, MutableMapping
    from selectors import SelectorKey

    Args = TypeVarTuple("Args")

    class ReadyHandle(Protocol):
        """A callback that is due: asyncio's `Handle` and `TimerHandle`."""

        _cancelled: bool
        _callback: object

        def _run(self) -> None: ...

    class ScheduledHandle(ReadyHandle, Protocol):
        """A callback with a time, ordered by it: asyncio's `TimerHandle`."""

        _when: float
        _scheduled: bool

        def __lt__(self, other: ScheduledHandle, /) -> bool: ...

    class SelectorLoop(asyncio.SelectorEventLoop):
        """asyncio's selector loop, with the names that the reactor uses or replaces."""

        # The self-pipe: what is written to the second wakes the select on the first. None, and
        # so without attributes, once the loop is closed.
        _ssock: socket.socket
        _csock: socket.socket
        _internal_fds: int

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

        # Open transports by descriptor, weakly.
        _transports: MutableMapping[int, asyncio.BaseTransport]

        def _check_closed(self) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _process_self_data(self, data: bytes, /) -> None: ...
        def _process_events(self, ready: list[tuple[SelectorKey, int]], /) -> None: ...
        def _add_reader(
            self, fd: int, callback: Callable[[Unpack[Args]], object], *args: *Args
        ) -> asyncio.Handle: ...
        def _add_writer(
            self, fd: int, callback: Callable[[Unpack[Args]], object], *args: *Args
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

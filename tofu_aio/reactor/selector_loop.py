"""What of asyncio's selector loop, beyond its documentation, the reactor's loop stands on.

Every name here is private to asyncio, the same in Python 3.11 to 3.14, and gone through by
CPython's own tests when they run on our loop. A Python that changes one fails there, not at users.
"""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVarTuple, Unpack

if TYPE_CHECKING:
    import socket
    from collections import deque
    from collections.abc import Callable, MutableMapping
    from contextvars import Context
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

        _debug: bool
        # What runs now, for the exception handler to name in debug mode.
        _current_handle: ReadyHandle | None

        # Open transports by descriptor, weakly.
        _transports: MutableMapping[int, asyncio.BaseTransport]

        def _check_closed(self) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _process_self_data(self, data: bytes, /) -> None: ...
        def _process_events(self, ready: list[tuple[SelectorKey, int]], /) -> None: ...
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
        def _remove_reader(self, fd: int, /, **unknown: object) -> bool: ...
        def _remove_writer(self, fd: int, /, **unknown: object) -> bool: ...

else:
    SelectorLoop = asyncio.SelectorEventLoop

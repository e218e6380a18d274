"""One call as its handler and the middleware see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, TypeAlias

from ..messaging.channel import Channel
from ..protocol.text_headers import TextHeaders
from ..transport.peer import Peer


def left(deadline: float | None) -> float | None:
    """Seconds until a deadline, 0 or more; None if there is none."""
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


class Deadline:
    """The deadline of a call that is being handled.

    Attributes:
        until: when its time is over, by the loop's clock; None once the call has ended.
    """

    __slots__ = ("until",)

    def __init__(self, until: float) -> None:
        self.until: float | None = until


DEADLINE: Final[ContextVar[Deadline | None]] = ContextVar("tofu_aio.deadline", default=None)
"""The deadline of the current call. Calls that its handler makes inherit it. None outside of a
call, and for one without a time-out."""


class Call:
    """One call, for a handler that has a parameter of this type, and for middleware.

    Attributes:
        name: the name that the caller gave.
        headers: of the request, with those that the caller added.
        channel: the caller's.
        deadline: when the caller's time is over, by the loop's clock; None if it waits any time.
    """

    __slots__ = ("_state", "channel", "deadline", "headers", "name")

    def __init__(
        self, name: str, headers: TextHeaders, channel: Channel, deadline: float | None
    ) -> None:
        self.name = name
        self.headers = headers
        self.channel = channel
        self.deadline = deadline
        self._state: dict[str, object] | None = None

    @property
    def peer(self) -> Peer:
        """The caller: its address, its process on a Unix socket, and its certificate with TLS."""
        return self.channel.peer

    @property
    def hello(self) -> TextHeaders:
        """The headers of the caller's Hello, for example a token."""
        return self.channel.hello.headers

    @property
    def state(self) -> dict[str, object]:
        """Whatever middleware wants to leave for the handler."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, 0 or more; None if there is none."""
        return left(self.deadline)

    def __repr__(self) -> str:
        return f"<Call {self.name!r} channel={self.channel.number}>"


Next: TypeAlias = Callable[[Call], Awaitable[object]]
"""Calls the next middleware, or the handler. It returns the handler's result; None if the result
is streamed, once all of it was sent."""

Middleware: TypeAlias = Callable[[Call, Next], Awaitable[object]]
"""An async function that is called around each call. It returns the result."""


def inherited_deadline() -> float | None:
    """When the time of the current call is over, by the loop's clock.

    None outside of a call, or if its caller waits for any time.
    """
    deadline = DEADLINE.get()
    return None if deadline is None else deadline.until


def is_cancelled(error: BaseException) -> bool:
    """Whether somebody has cancelled the running task, and a handler did not only say so."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0

"""What ``connect`` returns: to be awaited, or entered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from functools import wraps
from inspect import CORO_CLOSED, CORO_CREATED, getcoroutinestate
from types import TracebackType
from typing import ParamSpec, overload

from .channel import Channel

P = ParamSpec("P")


class Connecting(Coroutine[object, object, Channel], AbstractAsyncContextManager[Channel]):
    """A channel that is about to be made. Made by ``connect``.

    ``await`` it for the channel, which is the caller's to close. Or use it as an async context
    manager, whose end closes the channel with a Bye, also when what is inside raises:

        channel = await group.connect(address)

        async with group.connect(address) as channel:
            ...

    Nothing is done before that. It is a coroutine, so ``asyncio.create_task``, ``gather`` and
    ``wait_for`` take it, and as with any coroutine Python warns if it is dropped without having
    been awaited. Cancelled at any moment, it leaves nothing open.

    Raises:
        RuntimeError: it was awaited or entered before; it makes one channel.
    """

    __slots__ = ("_channel", "_coroutine")

    def __init__(self, coroutine: Coroutine[object, object, Channel]) -> None:
        self._coroutine = coroutine
        self._channel: Channel | None = None

    def __await__(self) -> Generator[object, None, Channel]:
        if getcoroutinestate(self._coroutine) != CORO_CREATED:
            raise _once()
        return self._coroutine.__await__()

    async def __aenter__(self) -> Channel:
        self._channel = await self
        return self._channel

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._channel is not None
        await self._channel.aclose()

    # --- a coroutine, for who takes nothing else ------------------------------------------

    def send(self, value: object, /) -> object:
        """Go on, as a task has it."""
        if getcoroutinestate(self._coroutine) == CORO_CLOSED:
            raise _once()
        return self._coroutine.send(value)

    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> object: ...

    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /
    ) -> object: ...

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> object:
        """Go on with an exception, as a task that is cancelled has it."""
        if isinstance(typ, BaseException):
            error = typ
        elif isinstance(val, BaseException):
            error = val
        else:
            error = typ() if val is None else typ(val)
        # In one piece: apart they are deprecated.
        return self._coroutine.throw(error if tb is None else error.with_traceback(tb))

    def close(self) -> None:
        """Have it never done, or no further."""
        self._coroutine.close()

    def __getattr__(self, name: str) -> object:
        # What debuggers, anyio and a task's repr look for in a coroutine.
        if name.startswith("cr_") or name in {"__name__", "__qualname__"}:
            value: object = getattr(self._coroutine, name)
            return value
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}: there is no channel yet: "
            "await it, or enter it with 'async with'",
            name=name,
            obj=self,
        )


def connecting(
    function: Callable[P, Coroutine[object, object, Channel]],
) -> Callable[P, Connecting]:
    """Have an async function that makes a channel return a ``Connecting``."""

    @wraps(function)
    def connect(*args: P.args, **kwargs: P.kwargs) -> Connecting:
        return Connecting(function(*args, **kwargs))

    return connect


def _once() -> RuntimeError:
    return RuntimeError("this connect() makes one channel, and was awaited before: call it again")

"""The object that ``connect`` returns, to be awaited or entered."""

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
    """A channel that is about to be made. Returned by ``connect``.

    ``await`` it to get the channel, which the caller then has to close. Or use it as an async
    context manager, which closes the channel at its end with a Bye, also if the block raises:

        channel = await group.connect(address)

        async with group.connect(address) as channel:
            ...

    Nothing is done before that. It is a coroutine, so ``asyncio.create_task``, ``gather`` and
    ``wait_for`` take it, and Python warns if it is dropped without having been awaited. Cancelling
    it at any moment leaves nothing open.

    Raises:
        RuntimeError: it was awaited or entered before. It makes one channel only.
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

    # --- the coroutine protocol, for create_task and the like -----------------------------

    def send(self, value: object, /) -> object:
        """Run the coroutine to its next ``await``, as a task does."""
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
        """Raise an exception in the coroutine, as a task that is cancelled does."""
        if isinstance(typ, BaseException):
            error = typ
        elif isinstance(val, BaseException):
            error = val
        else:
            error = typ() if val is None else typ(val)
        # As one argument: passing three is deprecated.
        return self._coroutine.throw(error if tb is None else error.with_traceback(tb))

    def close(self) -> None:
        """Close the coroutine, so that it does not start or go on."""
        self._coroutine.close()

    def __getattr__(self, name: str) -> object:
        # Debuggers, anyio and a task's repr read these attributes of a coroutine.
        if name.startswith("cr_") or name in {"__name__", "__qualname__"}:
            value: object = getattr(self._coroutine, name)
            return value
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}: the channel does not exist "
            "yet: await this object, or enter it with 'async with'",
            name=name,
            obj=self,
        )


def connecting(
    function: Callable[P, Coroutine[object, object, Channel]],
) -> Callable[P, Connecting]:
    """Make an async function that returns a channel return a ``Connecting`` instead."""

    @wraps(function)
    def connect(*args: P.args, **kwargs: P.kwargs) -> Connecting:
        return Connecting(function(*args, **kwargs))

    return connect


def _once() -> RuntimeError:
    return RuntimeError(
        "this connect() was awaited or entered before, and makes one channel only: call "
        "connect() again"
    )

"""The objects that ``connect`` and ``listen`` return, to be awaited or entered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from functools import wraps
from inspect import CORO_CLOSED, CORO_CREATED, getcoroutinestate
from types import TracebackType
from typing import ClassVar, ParamSpec, TypeVar, overload

from anyio.abc import AsyncResource

from .channel import Channel
from .listener import Listener

P = ParamSpec("P")
T = TypeVar("T", bound=AsyncResource)
Kind = TypeVar("Kind")


class Opening(Coroutine[object, object, T], AbstractAsyncContextManager[T]):
    """A coroutine that makes a resource, and an async context manager that closes it as well.

    ``asyncio.create_task``, ``gather`` and ``wait_for`` take it, and Python warns if it is dropped
    without having been awaited.

    Raises:
        RuntimeError: it was awaited or entered before.
    """

    _function: ClassVar[str]
    _noun: ClassVar[str]

    def __init__(self, coroutine: Coroutine[object, object, T]) -> None:
        self._coroutine = coroutine
        self._resource: T | None = None

    def __await__(self) -> Generator[object, None, T]:
        if getcoroutinestate(self._coroutine) != CORO_CREATED:
            raise self._once()
        return self._coroutine.__await__()

    async def __aenter__(self) -> T:
        self._resource = await self
        return self._resource

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._resource is not None
        await self._resource.aclose()

    # --- the coroutine protocol, for create_task and the like -----------------------------

    def send(self, value: object, /) -> object:
        """Run the coroutine to its next ``await``, as a task does."""
        if getcoroutinestate(self._coroutine) == CORO_CLOSED:
            raise self._once()
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
            f"{type(self).__name__!r} object has no attribute {name!r}: the {self._noun} does not "
            "exist yet: await this object, or enter it with 'async with'",
            name=name,
            obj=self,
        )

    def _once(self) -> RuntimeError:
        return RuntimeError(
            f"this {self._function}() was awaited or entered before, and makes one {self._noun} "
            f"only: call {self._function}() again"
        )


class Connecting(Opening[Channel]):
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

    _function = "connect"
    _noun = "channel"


class Listening(Opening[Listener]):
    """A listener that is about to be made. Returned by ``listen``.

    ``await`` it to get the listener, which the caller then has to close. Or use it as an async
    context manager, which closes the listener at its end, also if the block raises:

        listener = await group.listen(address)

        async with group.listen(address) as listener:
            ...

    Nothing is done before that. It is a coroutine, as ``Connecting`` is.

    Raises:
        RuntimeError: it was awaited or entered before. It makes one listener only.
    """

    _function = "listen"
    _noun = "listener"


def opens(
    kind: Callable[[Coroutine[object, object, T]], Kind],
) -> Callable[[Callable[P, Coroutine[object, object, T]]], Callable[P, Kind]]:
    """Make an async function return such an object instead of a mere coroutine."""

    def decorate(function: Callable[P, Coroutine[object, object, T]]) -> Callable[P, Kind]:
        @wraps(function)
        def opening(*args: P.args, **kwargs: P.kwargs) -> Kind:
            return kind(function(*args, **kwargs))

        return opening

    return decorate

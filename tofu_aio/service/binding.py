"""An object with the methods of an interface, each of which calls a handler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction, isfunction, signature
from types import FunctionType
from typing import Final, ParamSpec, Protocol, TypeVar, cast

from .signatures import Signature, signature_of_method

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F")

_IDEMPOTENT: Final = "__tofu_idempotent__"


def idempotent(method: F) -> F:
    """Decorate a method of an interface for ``Client.bind``: its calls may be carried out twice.

    So a call that was lost is tried again, as with ``call(..., idempotent=True)``. A stream or an
    upload is never tried again.
    """
    setattr(method, _IDEMPOTENT, True)
    return method


class Caller(Protocol):
    """What a method needs of its client, whose calls may be awaitable or not."""

    def call(
        self,
        name: str,
        payload: object = None,
        *,
        result: type[T],
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> object:
        """Call a handler."""

    def upload(
        self, name: str, parts: Iterable[object], *, result: type[T], timeout: float | None = None
    ) -> object:
        """Call a handler with a stream."""

    def stream(
        self, name: str, payload: object = None, *, item: type[T], timeout: float | None = None
    ) -> object:
        """Call a handler that returns a stream."""


def bound(
    client: Caller,
    interface: Callable[P, T],
    timeout: float | None,
    prefix: str,
    *,
    plain: bool = False,
) -> T:
    """The object; see ``Client.bind``.

    Args:
        client: makes the calls.
        interface: the class.
        timeout: seconds, for each call.
        prefix: begins the names of handlers.
        plain: whether the streams of the interface may be plain iterators.

    Raises:
        TypeError: ``interface`` is no class, or a method has no meaning as a call.
    """
    if not isinstance(interface, type):
        raise TypeError(f"bind() takes a class with methods, such as a Protocol, not {interface!r}")
    methods: dict[str, object] = {}
    for each in reversed(interface.__mro__):
        for name, function in vars(each).items():
            if isfunction(function) and not name.startswith("_"):
                told = signature_of_method(function, plain=plain)
                if not plain:  # an interface may be shared with async programs
                    _check_kind(function, told)
                methods[name] = _method(client, prefix + name, function, told, timeout)
    if not methods:
        raise TypeError(f"{interface.__name__} has no methods to call")
    return cast("T", type(interface.__name__, (), methods)())


def _check_kind(function: FunctionType, told: Signature) -> None:
    """Check that a method is ``async def`` if its result is to be awaited, and not otherwise."""
    awaited = not told.result.streamed
    if awaited != iscoroutinefunction(function):
        wanted = "'async def'" if awaited else "'def': its result is no coroutine"
        raise TypeError(f"the method {function.__qualname__} must be {wanted}")


def _method(
    client: Caller, name: str, function: FunctionType, told: Signature, timeout: float | None
) -> object:
    streamed = told.payload is not None and told.payload.streamed
    parameters = signature(function)
    twice: bool = getattr(function, _IDEMPOTENT, False)

    def method(*given: object, **named: object) -> object:
        arguments = parameters.bind(*given, **named)
        arguments.apply_defaults()
        payload = arguments.args[1] if len(arguments.args) > 1 else None
        if told.result.streamed:
            if streamed and isinstance(payload, Iterable):
                payload = iter(payload)  # a list would be one value
            return client.stream(name, payload, item=told.result.type, timeout=timeout)
        if streamed:
            parts = cast("Iterable[object]", payload)
            return client.upload(name, parts, result=told.result.type, timeout=timeout)
        return client.call(
            name, payload, result=told.result.type, timeout=timeout, idempotent=twice
        )

    method.__name__ = name
    return method

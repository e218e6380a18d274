"""The handlers of a service, and the middleware around them."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from enum import Enum, auto
from inspect import isawaitable
from types import FunctionType, UnionType
from typing import Any, Final, Union, cast

from .call import Call, Middleware, Next
from .signatures import Signature, is_protocol, signature_of

_NO_CLASSES: Final[frozenset[object]] = frozenset({Any, Union, UnionType})
"""Classes, on some Pythons, that no value has."""


class Bound(Enum):
    """What bounds how many calls of a handler run at once."""

    SLOTS = auto()
    """The ``concurrency`` of the service and of the channel."""
    STREAMS = auto()
    """The ``streams`` of the service: those whose payload or result is streamed."""
    NOTHING = auto()
    """They always run."""


def checked_name(name: object) -> str:
    """Check the name of a handler, and return it.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(name, str):
        raise TypeError('the handler has no name: write @service.handler("name")')
    if not name or name.strip() != name:
        raise ValueError(f"the name of a handler is {name!r}: give text without blanks")
    return name


class Handler:
    """One handler.

    Args:
        name: by which it is called.
        function: the handler.
        injected: the types of resources that it may ask for.
        unbounded: whether its calls do not count towards the bounds of the service.
        content_type: of its streamed result, whatever its caller asks for; "" if that decides.

    Attributes:
        name, function, content_type: as given.
        bound: what bounds how many of its calls run at once.
        signature: what the annotations of ``function`` say.
        payload_type: of the payload, or of its items.
        simple: whether its only argument is a payload that it must have, and nothing is streamed.
        streams: whether the payload or the result is a stream.
        takes_stream: whether the payload is.
        running: how many calls are running.
    """

    def __init__(
        self,
        name: str,
        function: object,
        injected: Collection[type],
        *,
        unbounded: bool = False,
        content_type: str = "",
    ) -> None:
        self.name = name
        self.running = 0
        self.content_type = content_type
        self.signature: Signature = signature_of(function, injected)
        self.function = cast("FunctionType", function)
        payload, result = self.signature.payload, self.signature.result
        self.payload_type: type = object if payload is None else payload.type
        self.takes_stream = payload is not None and payload.streamed
        self.streams = self.takes_stream or result.streamed
        self.simple = (
            self.signature.order == (None,) and self.signature.required and not result.streamed
        )
        if unbounded:
            self.bound = Bound.NOTHING
        else:
            self.bound = Bound.STREAMS if self.streams else Bound.SLOTS
        self._result_class = _class_of(result.type)

    def check_result(self, result: object) -> None:
        """Check that the handler has returned what its annotation says, as far as a class can tell.

        Raises:
            TypeError: it has not.
        """
        expected = self._result_class
        if type(result) is expected or expected is object or isinstance(result, expected):
            return
        if expected is float and isinstance(result, int):
            return
        kind = "None" if result is None else f"an object of type {type(result).__name__}"
        raise TypeError(
            f"the handler {self.name!r} returned {kind}, and its annotation says "
            f"{expected.__name__}. Does a middleware swallow an exception?"
        )


def _class_of(annotation: object) -> type:
    """The class that values of a type have; ``object`` if the annotation does not say."""
    origin = getattr(annotation, "__origin__", annotation)
    if origin is None:
        return type(None)
    if hasattr(origin, "__required_keys__"):
        return dict  # a TypedDict
    if not isinstance(origin, type) or origin in _NO_CLASSES:
        return object
    if is_protocol(origin):
        return object
    return origin


def chained(middleware: Collection[Middleware], innermost: Next) -> Next:
    """The function that runs all middleware, the first one outermost, and then the innermost."""
    following = innermost
    for each in reversed(tuple(middleware)):
        following = _link(each, following)
    return following


def _link(middleware: Middleware, following: Next) -> Next:
    def run(call: Call) -> Awaitable[object]:
        result = middleware(call, following)
        if not isawaitable(result):
            raise TypeError(f"the middleware {middleware!r} must be an async function")
        return result

    return run

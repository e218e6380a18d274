"""What a handler's annotations say about its payload and its result."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Final, NamedTuple, get_args, get_origin, get_type_hints

_STREAMS: Final = (AsyncIterator, AsyncIterable, AsyncGenerator)
_PLAIN_STREAMS: Final = (Iterator, Iterable, Generator)


class Value(NamedTuple):
    """A payload or a result.

    Attributes:
        type: of the whole, or of each item of a stream; ``object`` if there is no annotation.
        streamed: whether it is a stream of items.
    """

    type: type
    streamed: bool


class Signature(NamedTuple):
    """How a handler is called.

    Attributes:
        payload: what it takes; None if it takes no payload.
        required: whether it must have a payload.
        result: what it returns.
        order: for each parameter, the type of the resource that it takes; None for the payload.
    """

    payload: Value | None
    required: bool
    result: Value
    order: tuple[type | None, ...]


def signature_of(function: object, injected: Collection[type]) -> Signature:
    """Read a handler's annotations.

    Args:
        function: the handler.
        injected: the types that are not payloads.

    Raises:
        TypeError: it is no async function or async generator, or its parameters make no sense.
    """
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise TypeError(f"{function!r} is no async function: define the handler with 'async def'")
    told = _read(function, injected, parameter_types(function))
    if inspect.isasyncgenfunction(function) and not told.result.streamed:
        return told._replace(result=Value(object, streamed=True))
    return told


def signature_of_method(function: object, *, plain: bool = False) -> Signature:
    """Read the annotations of a method of an interface, which calls a handler.

    Args:
        function: the method.
        plain: whether its streams may be written without ``Async``: ``Iterator[T]``.

    Raises:
        TypeError: its parameters make no sense.
    """
    types = parameter_types(function)
    if not types:
        raise TypeError(f"{function!r} is no method: its first parameter must be 'self'")
    del types[next(iter(types))]
    return _read(function, (), types, _STREAMS + _PLAIN_STREAMS if plain else _STREAMS)


def _read(
    function: object,
    injected: Collection[type],
    types: Mapping[str, type],
    streams: Collection[object] = _STREAMS,
) -> Signature:
    payload, required = None, False
    order: list[type | None] = []
    for name, as_type in types.items():
        if as_type in injected:
            order.append(as_type)
            continue
        if payload is not None:
            raise TypeError(
                f"{function!r} has more than one parameter for the payload, {name!r} among them: "
                "put all fields into one struct. A resource must be added before the handlers that "
                "ask for it"
            )
        payload = value_of(as_type, streams)
        required = _parameters(function)[name].default is inspect.Parameter.empty
        order.append(None)
    result = value_of(_hints(function).get("return", object), streams)
    return Signature(payload, required, result, tuple(order))


def value_of(annotation: object, streams: Collection[object] = _STREAMS) -> Value:
    """What an annotation says: a type, or a stream of items of a type."""
    if get_origin(annotation) in streams:
        return Value(get_args(annotation)[0], streamed=True)
    if annotation in streams:
        return Value(object, streamed=True)
    # Types like ``int | None`` are no instances of ``type``, and msgspec takes them all the same.
    return Value(annotation, streamed=False)  # type: ignore[arg-type]


def is_protocol(as_type: object) -> bool:
    """Whether a type only says what its values can do."""
    return bool(getattr(as_type, "_is_protocol", False))


def parameter_types(function: object) -> dict[str, type]:
    """The annotations of a function's parameters; ``object`` where there is none.

    Raises:
        TypeError: a parameter cannot be passed by position, or an annotation has no meaning.
    """
    hints = _hints(function)
    types: dict[str, type] = {}
    for parameter in _parameters(function).values():
        if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            raise TypeError(
                f"{function!r} has the parameter {parameter}, which is not passed by position: "
                "make it an ordinary one"
            )
        types[parameter.name] = hints.get(parameter.name, object)
    return types


def _parameters(function: object) -> Mapping[str, inspect.Parameter]:
    if not callable(function):
        raise TypeError(f"{function!r} is no function")
    return inspect.signature(function).parameters


def _hints(function: object) -> dict[str, type]:
    try:
        return get_type_hints(function, include_extras=True)  # with msgspec's constraints
    except NameError as error:
        raise TypeError(
            f"the annotations of {function!r} cannot be read: {error}. Define or import the type "
            "at the top of the module, and not under TYPE_CHECKING or in a function"
        ) from error

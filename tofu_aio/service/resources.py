"""Resources that handlers ask for by type, opened for a service, a channel or a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from inspect import isasyncgenfunction
from types import FunctionType
from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args, get_origin, get_type_hints

from ..messaging.channel import Channel
from .call import Call
from .signatures import parameter_types

Scope: TypeAlias = Literal["service", "channel", "call"]

Values: TypeAlias = Mapping[type, object]
"""The open resources, and the call and its channel, by type."""

_GIVEN: Final[dict[Scope, set[type]]] = {
    "service": set(),
    "channel": {Channel},
    "call": {Channel, Call},
}
"""What is at hand in each scope without being a resource."""

_OUTER: Final[dict[Scope, tuple[Scope, ...]]] = {
    "service": ("service",),
    "channel": ("service", "channel"),
    "call": ("service", "channel", "call"),
}


class _Resource(NamedTuple):
    """How a resource is made.

    Attributes:
        made: its type, by which it is asked for.
        factory: an ``asynccontextmanager``.
        needs: the types of the factory's arguments.
    """

    made: type
    factory: FunctionType
    needs: tuple[type, ...]


class Resources:
    """The resources of a service, in the order in which they were added."""

    def __init__(self) -> None:
        self._of: dict[Scope, list[_Resource]] = {"service": [], "channel": [], "call": []}

    def add(self, scope: Scope, factory: object) -> None:
        """Add a resource.

        Raises:
            TypeError: it is no context manager with an annotated result, asks for something that
                is not at hand, or another resource has its type.
            ValueError: there is no such scope.
        """
        if isasyncgenfunction(factory):
            raise TypeError(f"{factory!r} is no context manager: put @asynccontextmanager above it")
        if scope not in self._of:
            raise ValueError(f'scope is {scope!r}: give "service", "channel" or "call"')
        made = _made_by(factory)
        if made in self.types or made in _GIVEN["call"]:
            raise TypeError(f"{factory!r} makes a {made.__name__}, and there is one already")
        needs = tuple(parameter_types(factory).values())
        at_hand = _GIVEN[scope].union(*(self._types(outer) for outer in _OUTER[scope]))
        for need in needs:
            if need not in at_hand:
                raise TypeError(
                    f"the resource {made.__name__} asks for {need!r}, which is not at hand in the "
                    f'scope "{scope}": add that resource first, in this scope or an outer one'
                )
        self._of[scope].append(_Resource(made, cast("FunctionType", factory), needs))

    @property
    def types(self) -> set[type]:
        """The types of all resources."""
        return set().union(*(self._types(scope) for scope in self._of))

    def any(self, scope: Scope) -> bool:
        """Whether there are resources in a scope."""
        return bool(self._of[scope])

    @asynccontextmanager
    async def opened(self, scope: Scope, outer: Values) -> AsyncIterator[Values]:
        """Open the resources of a scope, in order; they are closed in the opposite order.

        Args:
            scope: which.
            outer: the values that are at hand.
        """
        values = dict(outer)
        async with AsyncExitStack() as stack:
            for resource in self._of[scope]:
                arguments = [values[need] for need in resource.needs]
                manager: AbstractAsyncContextManager[object] = resource.factory(*arguments)
                values[resource.made] = await stack.enter_async_context(manager)
            yield values

    def _types(self, scope: Scope) -> set[type]:
        return {resource.made for resource in self._of[scope]}


def _made_by(factory: object) -> type:
    """The type that a context manager's ``as`` has, by its annotation."""
    returned = get_type_hints(factory).get("return")
    arguments = get_args(returned)
    if get_origin(returned) is None or not arguments or not isinstance(arguments[0], type):
        raise TypeError(
            f"{factory!r} does not say what it makes: write it as an async context manager, "
            '"@asynccontextmanager async def database() -> AsyncIterator[Database]: ..."'
        )
    return arguments[0]

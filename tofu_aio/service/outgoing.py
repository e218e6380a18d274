"""A call on its way out of a client: it is counted, and the program's own hook surrounds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from time import perf_counter
from types import MappingProxyType, TracebackType
from typing import Final, Literal, Self, TypeAlias

from ..protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    ConnectFailed,
    PeerDisconnected,
    TofuError,
    UdsPathNotFound,
)
from .counts import Counts
from .errors import CANCELLED, DEADLINE_EXCEEDED, INTERNAL, OK, UNAVAILABLE, ServiceError

Kind: TypeAlias = Literal["call", "stream", "upload"]

NOTHING_ADDED: Final[Mapping[str, str]] = MappingProxyType({})

_LOST: Final = (ConnectFailed, UdsPathNotFound, PeerDisconnected, ChannelEnded, ChannelClosed)


class OutgoingCall:
    """A call that a client is about to make, for the function given as ``around_call``.

    Attributes:
        name: of the handler.
        kind: "call", "stream" or "upload", after the method of the client.
        headers: sent in addition to the call's own ones; empty at first. Add to them before the
            context manager is entered, or while it is.
        addresses: those of the client. The call goes to one of them.
    """

    __slots__ = ("addresses", "headers", "kind", "name")

    def __init__(self, name: str, kind: Kind, addresses: tuple[str, ...]) -> None:
        self.name = name
        self.kind: Kind = kind
        self.headers: dict[str, str] = {}
        self.addresses = addresses

    def __repr__(self) -> str:
        return f"<OutgoingCall {self.kind} {self.name!r}>"


AroundCall: TypeAlias = Callable[[OutgoingCall], AbstractContextManager[object]]
"""A function that takes each call of a client and returns a context manager. That is entered before
the call is sent and left at its end, with the exception if it failed."""


class Watch:
    """Watches the calls of a client.

    Args:
        counts: of the client.
        around: the program's hook around each call; None for none.
        addresses: of the client, for the hook.
    """

    def __init__(
        self, counts: Counts, around: AroundCall | None, addresses: tuple[str, ...]
    ) -> None:
        self._counts = counts
        self._around = around
        self._addresses = addresses

    def call(self, name: str, kind: Kind) -> Watched:
        """The context of a call: it is counted there, with the program's hook around it."""
        if self._around is None:
            return Watched(self._counts, name)
        outgoing = OutgoingCall(name, kind, self._addresses)
        return Hooked(self._counts, name, self._around(outgoing), outgoing.headers)


class Watched:
    """Counts a call while the block runs.

    Args:
        counts: of the client.
        name: of the handler.
    """

    __slots__ = ("_begun", "_counts", "_name")

    def __init__(self, counts: Counts, name: str) -> None:
        self._counts = counts
        self._name = name
        self._begun = perf_counter()

    @property
    def added(self) -> Mapping[str, str]:
        """The headers that the program's hook adds."""
        return NOTHING_ADDED

    def __enter__(self) -> Self:
        self._counts.running += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        counts = self._counts
        counts.running -= 1
        code = OK if exc_value is None else code_of(exc_value)
        if isinstance(exc_value, TofuError):  # a lost channel may have had many calls
            note = f"in the call of {self._name!r}"
            if note not in getattr(exc_value, "__notes__", ()):
                exc_value.add_note(note)
        counts.ended(self._name, code, perf_counter() - self._begun)


class Hooked(Watched):
    """Counts a call inside the program's hook.

    Args:
        counts: of the client.
        name: of the handler.
        hook: for this call.
        added: the headers that the hook adds.
    """

    __slots__ = ("_added", "_hook")

    def __init__(
        self,
        counts: Counts,
        name: str,
        hook: AbstractContextManager[object],
        added: Mapping[str, str],
    ) -> None:
        super().__init__(counts, name)
        self._hook = hook
        self._added = added

    @property
    def added(self) -> Mapping[str, str]:
        """The headers that the program's hook adds."""
        return self._added

    def __enter__(self) -> Self:
        self._hook.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self._hook.__exit__(exc_type, exc_value, traceback)


def code_of(error: BaseException | None) -> str:
    """The code that a call counts under: ``ok``, or what its error amounts to for the caller."""
    if error is None:
        return OK
    if isinstance(error, ServiceError):
        return error.code
    if isinstance(error, TimeoutError):
        return DEADLINE_EXCEEDED
    if isinstance(error, _LOST):
        return UNAVAILABLE
    return INTERNAL if isinstance(error, Exception) else CANCELLED

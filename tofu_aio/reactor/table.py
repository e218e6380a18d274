"""The selector's table: the interest in each descriptor, and what the system was last told."""

# `selectors.SelectorKey` has a field of type Any, so every signature that names it has one too.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    import selectors

    from _typeshed import FileDescriptorLike

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Registration:
    """One descriptor in the selector, from `register` to `unregister`.

    Attributes:
        key: What the program registered; `key.events` is what it wants now.
        generation: A number that grows with each registration that the selector makes. It tells
            events of this registration from those of an earlier one of the same number.
        armed: What the poller was last told to watch for; 0 if it watches nothing.
        renewed: Whether the registration has changed hands, so that its number may have been closed
            and reused. The poller must then be told again, even if nothing else has changed.
    """

    key: selectors.SelectorKey
    generation: int
    armed: int = 0
    renewed: bool = False


Table: TypeAlias = dict[int, Registration]
"""Registrations by descriptor. A plain dictionary, because each event is looked up in it."""


class TableView(Mapping["FileDescriptorLike", "selectors.SelectorKey"]):
    """A live, read-only view of a table, with file objects or numbers as keys."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def descriptor_of(self, fileobj: FileDescriptorLike) -> int:
        """Return the descriptor of a file object or number.

        An object that has lost its descriptor since it was registered is found by looking at every
        registration, so that it can be unregistered after it was closed.

        Raises:
            ValueError: The number is negative, or the object is neither open nor registered.
        """
        if isinstance(fileobj, int):
            fd = fileobj
        else:
            try:
                fd = int(fileobj.fileno())
            except (AttributeError, TypeError, ValueError):
                fd = None
        if fd is not None and fd >= 0:
            return fd
        for registration in self._table.values():
            if registration.key.fileobj is fileobj:
                return registration.key.fd
        if fd is None:
            raise ValueError(f"Invalid file object: {fileobj!r}")
        raise ValueError(f"Invalid file descriptor: {fd}")

    def find(self, fileobj: FileDescriptorLike) -> Registration:
        """Return the registration of a file object or number.

        Raises:
            KeyError: The file object is not registered.
            ValueError: As for `descriptor_of`.
        """
        registration = self._look_up(fileobj)
        if registration is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return registration

    def _look_up(self, fileobj: FileDescriptorLike) -> Registration | None:
        # asyncio looks up the number for each callback that it adds or removes.
        registration = self._table.get(fileobj) if type(fileobj) is int else None
        if registration is None:
            return self._table.get(self.descriptor_of(fileobj))
        return registration

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[int]:
        return iter(self._table)

    def __getitem__(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self.find(fileobj).key

    @overload
    def get(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey | None: ...
    @overload
    def get(self, fileobj: FileDescriptorLike, default: T) -> selectors.SelectorKey | T: ...
    def get(
        self, fileobj: FileDescriptorLike, default: T | None = None
    ) -> selectors.SelectorKey | T | None:
        """Return the key of a file object or number, or `default`.

        The inherited method raises and catches a KeyError if there is none, which is the case each
        time asyncio starts watching a descriptor.
        """
        registration = self._look_up(fileobj)
        return default if registration is None else registration.key

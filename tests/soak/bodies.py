"""Bodies that contain their number, and checks of those that arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Body: TypeAlias = bytes | bytearray | memoryview


class Broken(Exception):
    """The library broke a promise.

    Attributes:
        check: the name of the check that found it.
    """

    def __init__(self, check: str, text: str) -> None:
        super().__init__(text)
        self.check = check


def numbered(number: int, size: int) -> bytes:
    """A body of ``size`` bytes, at least 8, all of which depend on the number."""
    return number.to_bytes(8) + bytes([number % 251]) * (size - 8)


def order(count: int, size: int) -> bytes:
    """A body that asks for ``count`` bodies of ``size`` bytes."""
    return count.to_bytes(8) + size.to_bytes(8)


def ordered(body: Body) -> Iterator[bytes]:
    """The bodies that such a body asks for."""
    count, size = int.from_bytes(body[:8]), int.from_bytes(body[8:])
    return (numbered(number, size) for number in range(1, count + 1))


def number_of(body: Body) -> int:
    """Return the number of a body.

    Raises:
        Broken: the body is not as it was made.
    """
    number = int.from_bytes(body[:8])
    if bytes(body) != numbered(number, max(8, len(body))):
        raise Broken("content", f"a body of {len(body)} bytes was changed")
    return number


class Sequence:
    """Checks the bodies that one side of a channel receives.

    Attributes:
        count: how many bodies arrived in order.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, body: Body) -> None:
        """Check the next body.

        Raises:
            Broken: another one was due.
        """
        number = number_of(body)
        if number != self.count + 1:
            raise Broken("order", f"number {number} arrived, but {self.count + 1} was due")
        self.count = number

    def check(self, total: int) -> None:
        """Check that all bodies have arrived.

        Raises:
            Broken: the sender has sent another number of them.
        """
        if self.count != total:
            raise Broken("completeness", f"{self.count} of {total} arrived")

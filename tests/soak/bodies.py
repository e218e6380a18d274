"""Bodies that tell their number, and what is wrong with those that came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Body: TypeAlias = bytes | bytearray | memoryview


class Broken(Exception):
    """A promise of the library was not kept.

    Attributes:
        check: which of the checks says so, in a word.
    """

    def __init__(self, check: str, text: str) -> None:
        super().__init__(text)
        self.check = check


def numbered(number: int, size: int) -> bytes:
    """A body of so many bytes, at least 8, each of which is due to the number."""
    return number.to_bytes(8) + bytes([number % 251]) * (size - 8)


def order(count: int, size: int) -> bytes:
    """A body that asks for so many of such a size."""
    return count.to_bytes(8) + size.to_bytes(8)


def ordered(body: Body) -> Iterator[bytes]:
    """What such a body asks for."""
    count, size = int.from_bytes(body[:8]), int.from_bytes(body[8:])
    return (numbered(number, size) for number in range(1, count + 1))


def number_of(body: Body) -> int:
    """Its number.

    Raises:
        Broken: it is not as it was made.
    """
    number = int.from_bytes(body[:8])
    if bytes(body) != numbered(number, max(8, len(body))):
        raise Broken("content", f"a body of {len(body)} bytes is not as it was sent")
    return number


class Sequence:
    """What one side of a channel has received.

    Attributes:
        count: how many bodies came, each with the number that was due.
    """

    def __init__(self) -> None:
        self.count = 0

    def take(self, body: Body) -> None:
        """One more.

        Raises:
            Broken: it is not the one that was due.
        """
        number = number_of(body)
        if number != self.count + 1:
            raise Broken("order", f"number {number} came when {self.count + 1} was due")
        self.count = number

    def check(self, total: int) -> None:
        """The sender says that these were all.

        Raises:
            Broken: they are not.
        """
        if self.count != total:
            raise Broken("completeness", f"{self.count} came of {total}")

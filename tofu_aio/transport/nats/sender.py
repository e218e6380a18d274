"""The sending half of a channel over NATS: what is buffered until there is credit for it."""

from __future__ import annotations

from collections import deque

from .limits import CHUNK_COST, SMALLEST_PIECE


class Sender:
    """Bytes on their way to the peer.

    Args:
        credit: bytes that the peer has granted.
        most: bytes that one chunk may have.

    Attributes:
        credit: bytes that may still be sent.
        size: bytes that are buffered.
    """

    __slots__ = ("_most", "_pieces", "_taken", "credit", "size")

    def __init__(self, credit: int, most: int) -> None:
        self.credit = credit
        self._most = most
        self._pieces: deque[bytes] = deque()
        self._taken = 0  # bytes of the first piece: cutting them off would copy all the others
        self.size = 0

    def add(self, data: bytes) -> None:
        """Buffer bytes."""
        self._pieces.append(data)
        self.size += len(data)

    def clear(self) -> None:
        """Drop everything that is buffered."""
        self._pieces.clear()
        self._taken = 0
        self.size = 0

    def take(self) -> bytes:
        """Return the payload of the next chunk, and count it; b"" if there is no credit for it."""
        room = min(self._most, self.credit - CHUNK_COST)
        if not self.size or room < min(self.size, SMALLEST_PIECE, self._most):
            return b""
        data = self._part(min(room, self.size))
        self.size -= len(data)
        self.credit -= len(data) + CHUNK_COST
        return data

    def _part(self, room: int) -> bytes:
        """Take exactly so many bytes. A piece that is taken whole is not copied."""
        parts: list[bytes] = []
        while room:
            piece = self._pieces[0]
            part = piece[self._taken : self._taken + room]
            self._taken += len(part)
            if self._taken == len(piece):
                self._pieces.popleft()
                self._taken = 0
            parts.append(part)
            room -= len(part)
        return b"".join(parts)

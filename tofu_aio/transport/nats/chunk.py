"""What travels beside the payload of each chunk: the last token of its reply subject.

So the payload is nothing but tofu frames, and the broker, which answers where nobody receives a
message with a reply subject, tells the sender of each chunk when its peer has gone.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OPEN: Final = "o"
"""A client asks any listener of a service for a channel. The value is the client's first grant."""

ACCEPT: Final = "a"
"""The listener has taken the client. The value is the listener's first grant."""

DECLINE: Final = "n"
"""The listener takes no client now: ask again, and another one may."""

DATA: Final = "d"
"""A piece of the stream."""

CREDIT: Final = "c"
"""The receiver can take so many bytes more."""

END: Final = "e"
"""The sender sends no more, and still receives."""

CLOSE: Final = "x"
"""The sender sends and receives no more."""

RESET: Final = "r"
"""The channel is lost. It has no place in the sequence."""

PROBE: Final = "p"
"""Asks nothing, and is sent to see whether the broker has a receiver for it."""

_TAIL: Final = re.compile(r"([oandcexrp])([0-9]{1,19})(?:-([0-9]{1,19}))?")

_MAX_INBOX: Final = 256
"""Characters of an inbox. A broker disconnects who publishes to a very long subject."""

_WORD: Final = r"[!-)+-\-/-=?-~]+"  # no space, control character, dot or wildcard
_INBOX: Final = re.compile(rf"{_WORD}(?:\.{_WORD})*")


class Chunk(NamedTuple):
    """One chunk, apart from its payload.

    Attributes:
        kind: one of the above.
        number: its place in the sequence of its sender's chunks on this channel, from 0.
        value: bytes, in ``OPEN``, ``ACCEPT`` and ``CREDIT``.
    """

    kind: str
    number: int
    value: int = 0

    def tail(self) -> str:
        """Return the token that stands for it."""
        kind, number, value = self
        return f"{kind}{number}-{value}" if value else f"{kind}{number}"


def split(reply: str) -> tuple[str, Chunk] | None:
    """Split a reply subject into the sender's inbox and the chunk; None if it is not of a chunk.

    An inbox that nobody could publish to is refused, since its answer would end the connection.
    """
    inbox, _, tail = reply.rpartition(".")
    if len(inbox) > _MAX_INBOX or _INBOX.fullmatch(inbox) is None:
        return None
    if tail.startswith(DATA) and tail[1:].isdecimal() and tail.isascii() and len(tail) < 20:
        return inbox, Chunk(DATA, int(tail[1:]))  # mostly, and faster than the expression
    found = _TAIL.fullmatch(tail)
    if found is None:
        return None
    kind, number, value = found.groups()
    return inbox, Chunk(kind, int(number), int(value or 0))

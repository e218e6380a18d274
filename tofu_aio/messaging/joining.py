"""Bodies that are too long for one message: putting their parts together, in bounded memory."""

from __future__ import annotations

from collections import deque
from io import BytesIO
from typing import Final

from ..protocol.binary_header import MAX_PART
from ..protocol.errors import (
    AllocationFailed,
    InvalidBodyLen,
    InvalidHeadersLen,
    TofuError,
)
from ..protocol.message import Message
from ..protocol.op_code import MORE_BIT
from ..protocol.pool import Permit, Pool
from ..protocol.text_headers import WHOLE, TextHeaders

_OVERHEAD: Final = 1024
"""Bytes that count for a body beside its own: empty parts are not free."""


class JoiningRoom:
    """The bytes of an engine's bodies that are being put together.

    Nobody waits for room here: whoever holds a part of a body would wait for others that do. The
    newest fails instead.

    Args:
        bound: bytes of all bodies.
        max_body: bytes of one.

    Attributes:
        bound, max_body: as given.
    """

    __slots__ = ("_returned", "_taken", "bound", "max_body")

    def __init__(self, bound: int, max_body: int) -> None:
        self.bound = bound
        self.max_body = max_body
        self._taken = 0
        self._returned: deque[int] = deque()  # its ``append`` and ``popleft`` are atomic

    @property
    def used(self) -> int:
        """Bytes that are taken. In the loop's thread."""
        returned = self._returned
        while returned:
            self._taken -= returned.popleft()
        return self._taken

    def take(self, nbytes: int) -> bool:
        """Take so many bytes, if there are as many. In the loop's thread."""
        if self.used + nbytes > self.bound:
            return False
        self._taken += nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        """Give bytes back. From any thread, and from a finalizer in the middle of anything."""
        self._returned.append(nbytes)


class Join:
    """The parts of one request or response, on their way to become one message.

    Until all are here they hold nothing but room, which is taken or refused at once: whatever they
    held otherwise, messages that come in between could wait for it, with the other parts behind
    them. The last part of a request waits for permits as a message of the whole length would.

    Args:
        room: of the engine.
        what: the request or the response, in words.
        keep: whether the whole message holds its memory until it is released. A response does not:
            whoever asked for it has made room.
    """

    __slots__ = ("_body", "_headers", "_keep", "_room", "_taken", "_what")

    def __init__(self, room: JoiningRoom, what: str, *, keep: bool) -> None:
        self._room = room
        self._what = what
        self._keep = keep
        self._body = BytesIO()
        self._headers = b""
        self._taken = 0  # of the room

    @property
    def length(self) -> int:
        """Bytes that have come so far."""
        return self._body.tell() + len(self._headers)

    def add(self, part: Message) -> TofuError | None:
        """Take a part; or say why the whole can never be. Then nothing is kept."""
        if part.more or not self._keep:
            part.release()
        headers = _headers_of(part)
        nbytes = (0 if self._taken else _OVERHEAD) + len(headers) + len(part.body)
        room, length = self._room, self._body.tell() + len(part.body)
        error: TofuError | None = None
        if length > room.max_body:
            error = self._too_long(length)
        elif len(self._headers) + len(headers) > MAX_PART:
            error = InvalidHeadersLen(f"{self._what} has headers of more than {MAX_PART} bytes")
        elif not room.take(nbytes):
            error = AllocationFailed(
                f"{self._what} does not fit beside other long bodies: the engine puts together "
                f"{room.bound} bytes at a time (joining_bytes), and {room.used} are taken. Try "
                "again, or raise that limit"
            )
        if error is not None:
            part.release()
            self.drop()
            return error
        self._taken += nbytes
        self._headers += headers
        self._body.write(part.body)
        return None

    def announced(self, length: int) -> TofuError | None:
        """Why a body of so many bytes cannot be joined, if it is plain from the start."""
        return self._too_long(length) if length > self._room.max_body else None

    def whole(self, last: Message) -> Message:
        """The message, once its last part was added: which it becomes."""
        last.body = self._body.getvalue()
        last.headers = TextHeaders.decode(self._headers)
        last._proto &= ~MORE_BIT
        permit = last._permit
        if permit is None:  # nothing is counted
            self.drop()
            return last
        if permit.worth > 1:  # it is in the pool, for as much as its permits are worth
            covered = min(self._taken, permit.worth * permit.pool.unit)
            self._room.give_back(covered)
            self._taken -= covered
        last._permit = _Joined(self._room, self._taken, permit)
        return last

    def drop(self) -> None:
        """Give everything back."""
        self._room.give_back(self._taken)
        self._taken = 0

    def _too_long(self, length: int) -> TofuError:
        return InvalidBodyLen(
            f"{self._what} has a body of {length} bytes or more, and may have "
            f"{self._room.max_body} (max_body): send it as a stream, or raise that limit"
        )


class _Joined:
    """What a whole message holds: permits or the reserve, and room for what those do not cover."""

    __slots__ = ("_nbytes", "_permit", "_room")

    def __init__(self, room: JoiningRoom, nbytes: int, permit: Permit) -> None:
        self._room = room
        self._nbytes = nbytes
        self._permit = permit

    @property
    def worth(self) -> int:
        """Of its permits."""
        return self._permit.worth

    @property
    def pool(self) -> Pool:
        """Whose permits they are."""
        return self._permit.pool

    def release(self) -> None:
        """Give all of it back."""
        self._room.give_back(self._nbytes)
        self._permit.release()


def whole_length(part: Message) -> int | None:
    """How long the whole request is of which this is the first part, if it is to be joined."""
    if WHOLE not in part.headers:
        return None
    value = part.headers[WHOLE]
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else None


def _headers_of(part: Message) -> bytes:
    """A part's headers, but for what is between the engines."""
    if not part.headers.pairs:
        return b""
    pairs = [(name, value) for name, value in part.headers.pairs if name != WHOLE]
    return TextHeaders(pairs).encode()

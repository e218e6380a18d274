"""Bodies that are too long for one message: putting their parts together, in bounded memory."""

from __future__ import annotations

import re
from collections import deque
from io import BytesIO
from typing import Final

from ...protocol.account import Account
from ...protocol.binary_header import MAX_PART
from ...protocol.errors import AllocationFailed, InvalidBodyLen, InvalidHeadersLen, TofuError
from ...protocol.message import Message
from ...protocol.op_code import MORE_BIT
from ...protocol.pool import Permit, Pool
from ...protocol.text_headers import WHOLE, TextHeaders

_OVERHEAD: Final = 1024
"""Bytes that count for a body beside its own: empty parts are not free."""


# In the encoded form, as in agreements.py: as pairs they would take many times the memory.
_WHOLE: Final = re.compile(rb"(?:\A|(?<=\r\n))%s:([0-9]{1,19}+)\r\n" % WHOLE.encode())


class JoiningRoom:
    """The bytes of an engine's bodies that are being put together.

    Nobody waits for room here: whoever holds a part of a body would wait for others that do. The
    newest fails instead.

    Args:
        bound: bytes of all bodies.
        max_body: bytes of one.
        share: the part of what others leave that the unfinished requests of one peer may take.

    Attributes:
        bound, max_body, share: as given.
    """

    __slots__ = ("_returned", "_taken", "bound", "max_body", "share")

    def __init__(self, bound: int, max_body: int, share: float = 1.0) -> None:
        self.bound = bound
        self.max_body = max_body
        self.share = share
        self._taken = 0
        self._returned: deque[int] = deque()  # its ``append`` and ``popleft`` are atomic

    @property
    def used(self) -> int:
        """Bytes that are taken. In the loop's thread."""
        returned = self._returned
        while returned:
            self._taken -= returned.popleft()
        return self._taken

    def take(self, nbytes: int, own: int = 0) -> bool:
        """Take so many bytes, if there are as many. In the loop's thread.

        Args:
            nbytes: how many.
            own: how many the peer's unfinished requests have already; 0 if it has no share to keep.
        """
        free = self.bound - self.used
        if nbytes > free or (own and own + nbytes > (free + own) * self.share):
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
    them. The last part of a request waits for permits as a message of the whole length would, but
    for no more than its channel's share: what they do not cover stays in the room.

    Args:
        room: of the engine.
        what: the request or the response, in words.
        keep: whether the whole message holds its memory until it is released. A response does not:
            whoever asked for it has made room.

    Attributes:
        taken: bytes of the room.
    """

    __slots__ = ("_body", "_headers", "_keep", "_room", "_what", "taken")

    def __init__(self, room: JoiningRoom, what: str, *, keep: bool) -> None:
        self._room = room
        self._what = what
        self._keep = keep
        self._body = BytesIO()
        self._headers = b""
        self.taken = 0  # of the room

    @property
    def length(self) -> int:
        """Bytes that have come so far."""
        return self._body.tell() + len(self._headers)

    def add(self, part: Message, others: int = 0) -> TofuError | None:
        """Take a part; or say why the whole can never be. Then nothing is kept.

        Args:
            part: the next one.
            others: bytes of the room that other unfinished requests of the peer have.
        """
        if part.more or not self._keep:
            part.release()
        headers = _headers_of(part)
        nbytes = (0 if self.taken else _OVERHEAD) + len(headers) + len(part.body)
        length = self._body.tell() + len(part.body)
        error = (
            self._too_long(length, self.taken + nbytes)
            or self._too_many_headers(headers)
            or self._take(nbytes, others)
        )
        if error is not None:
            part.release()
            self.drop()
            return error
        self._headers += headers
        self._body.write(part.body)
        return None

    def announced(self, length: int) -> TofuError | None:
        """Why a body of so many bytes cannot be joined, if it is plain from the start."""
        return self._too_long(length, _OVERHEAD + length)

    def whole(self, last: Message) -> Message:
        """The message, once its last part was added: which it becomes."""
        last.body = self._body.getvalue()
        last.headers = TextHeaders.decode(self._headers)
        last._proto &= ~MORE_BIT
        permit = last._permit
        if permit is None:  # nothing is counted
            self.drop()
            return last
        if not isinstance(permit, Account):  # not the reserve: in the pool, as far as that goes
            covered = min(self.taken, permit.worth * permit.pool.unit)
            self._room.give_back(covered)
            self.taken -= covered
        last._permit = _Joined(self._room, self.taken, permit)
        return last

    def drop(self) -> None:
        """Give everything back."""
        self._room.give_back(self.taken)
        self.taken = 0

    def _too_many_headers(self, headers: bytes) -> TofuError | None:
        if len(self._headers) + len(headers) <= MAX_PART:
            return None
        return InvalidHeadersLen(f"{self._what} has headers of more than {MAX_PART} bytes")

    def _take(self, nbytes: int, others: int) -> TofuError | None:
        """Take room, or say why there is none at this moment."""
        room = self._room
        if room.take(nbytes, others + self.taken if others else 0):
            self.taken += nbytes
            return None
        return AllocationFailed(
            f"{self._what} does not fit beside other long bodies: the engine puts together "
            f"{room.bound} bytes at a time (joining_bytes), and {room.used} are taken. Try "
            "again, or raise that limit"
        )

    def _too_long(self, length: int, nbytes: int) -> TofuError | None:
        """Why a body of this length, or longer, can never be joined, whatever others do."""
        room = self._room
        if length > room.max_body:
            limit = f"may have {room.max_body} (max_body)"
        elif nbytes > room.bound:
            limit = f"with all that counts has to fit in {room.bound} (joining_bytes)"
        else:
            return None
        return InvalidBodyLen(
            f"{self._what} has a body of {length} bytes or more, and {limit}: send it as a stream, "
            "or raise that limit"
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
    found = _WHOLE.search(part.headers.encode())
    return int(found[1]) if found is not None else None


def _headers_of(part: Message) -> bytes:
    """A part's headers, encoded as they came, but for what is between the engines."""
    return _WHOLE.sub(b"", part.headers.encode())

"""Joining the parts of bodies that are too long for one message, in bounded memory."""

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
"""Bytes that count for a body in addition to its own, since an empty body also takes memory."""


# Matches encoded headers, as in agreements.py: decoded pairs would take many times the memory.
_WHOLE: Final = re.compile(rb"(?:\A|(?<=\r\n))%s:([0-9]{1,19}+)\r\n" % WHOLE.encode())


class JoiningRoom:
    """The room of an engine for bodies that are being joined, in bytes.

    Nothing waits for room here, because incomplete bodies could then wait for each other. The
    newest body fails instead.

    Args:
        bound: bytes of all bodies.
        max_body: bytes of one body.
        share: the part of the room, after what others hold, that the incomplete requests of one
            peer may take.

    Attributes:
        bound, max_body, share: as given.
    """

    __slots__ = ("_returned", "_taken", "bound", "max_body", "share")

    def __init__(self, bound: int, max_body: int, share: float = 1.0) -> None:
        self.bound = bound
        self.max_body = max_body
        self.share = share
        self._taken = (0,)  # another tuple each time, so that a look sees that it has changed
        self._returned: deque[int] = deque()

    @property
    def used(self) -> int:
        """Bytes that are taken. Any thread may ask, for statistics."""
        while True:
            taken, returned = self._taken, self._returned
            try:
                # A deque cannot be copied while others append to it, if there is no GIL.
                nbytes = taken[0] - sum(map(returned.__getitem__, range(len(returned))))
            except IndexError:  # the loop has counted one meanwhile
                continue
            if self._taken is taken:
                return nbytes

    def take(self, nbytes: int, own: int = 0) -> bool:
        """Take bytes, if enough are free; return whether they were. Only for the loop's thread.

        Args:
            nbytes: how many.
            own: bytes that the peer's incomplete requests have taken already; 0 if the share of
                one peer does not apply.
        """
        returned = self._returned
        while returned:
            self._taken = (self._taken[0] - returned.popleft(),)
        taken = self._taken[0]
        free = self.bound - taken
        if nbytes > free or (own and own + nbytes > (free + own) * self.share):
            return False
        self._taken = (taken + nbytes,)
        return True

    def give_back(self, nbytes: int) -> None:
        """Give bytes back. May be called from any thread, and from a finalizer at any moment."""
        self._returned.append(nbytes)


class Join:
    """Joins the parts of one request or response into one message.

    Until all parts have arrived, they hold only room, which is taken or refused at once. If they
    held permits, messages between the parts could wait for these permits, and the other parts
    behind those messages. The last part of a request waits for permits as a message of the whole
    length would, but for no more than its channel's share. Bytes that the permits do not cover
    stay in the room.

    Args:
        room: of the engine.
        what: the request or the response, in words, for errors.
        keep: whether the whole message holds its memory until it is released. False for a
            response, because a request bounds what may come back.

    Attributes:
        taken: bytes of the room that it holds.
    """

    __slots__ = ("_body", "_headers", "_keep", "_room", "_what", "taken")

    def __init__(self, room: JoiningRoom, what: str, *, keep: bool) -> None:
        self._room = room
        self._what = what
        self._keep = keep
        self._body = BytesIO()
        self._headers = b""
        self.taken = 0

    @property
    def length(self) -> int:
        """Bytes that have arrived so far."""
        return self._body.tell() + len(self._headers)

    def add(self, part: Message, others: int = 0) -> TofuError | None:
        """Add a part, or return why the parts cannot be joined. Then nothing is kept.

        Args:
            part: the next one.
            others: bytes of the room that other incomplete requests of the peer have taken.
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
        """Why a body of this announced length can never be joined; None if it may be."""
        return self._too_long(length, _OVERHEAD + length)

    def whole(self, last: Message) -> Message:
        """Make the last part, which was added before, the whole message, and return it."""
        last.body = self._body.getvalue()
        last.headers = TextHeaders.decode(self._headers)
        last._proto &= ~MORE_BIT
        permit = last._permit
        if permit is None:  # its memory is not counted
            self.drop()
            return last
        if not isinstance(permit, Account):  # permits of the pool, not the reserve, cover a part
            covered = min(self.taken, permit.worth * permit.pool.unit)
            self._room.give_back(covered)
            self.taken -= covered
        last._permit = _Joined(self._room, self.taken, permit)
        return last

    def drop(self) -> None:
        """Give all the room back."""
        self._room.give_back(self.taken)
        self.taken = 0

    def _too_many_headers(self, headers: bytes) -> TofuError | None:
        if len(self._headers) + len(headers) <= MAX_PART:
            return None
        return InvalidHeadersLen(f"{self._what} has more than {MAX_PART} bytes of headers")

    def _take(self, nbytes: int, others: int) -> TofuError | None:
        """Take room, or return the error if there is none at this moment."""
        room = self._room
        if room.take(nbytes, others + self.taken if others else 0):
            self.taken += nbytes
            return None
        return AllocationFailed(
            f"{self._what} does not fit beside other long bodies: the engine joins {room.bound} "
            f"bytes at a time (joining_bytes), and {room.used} are taken. Try again, or raise "
            "that limit"
        )

    def _too_long(self, length: int, nbytes: int) -> TofuError | None:
        """Why a body of this length, or longer, can never be joined, however much room is free."""
        room = self._room
        if length > room.max_body:
            limit = f"and the limit is {room.max_body} (max_body)"
        elif nbytes > room.bound:
            limit = (
                f"which takes {nbytes} bytes of room, and there are {room.bound} (joining_bytes)"
            )
        else:
            return None
        return InvalidBodyLen(
            f"{self._what} has a body of {length} bytes or more, {limit}: send it as a stream, "
            "or raise that limit"
        )


class _Joined:
    """What a whole message holds: permits or the reserve, and room for bytes beyond these."""

    __slots__ = ("_nbytes", "_permit", "_room")

    def __init__(self, room: JoiningRoom, nbytes: int, permit: Permit) -> None:
        self._room = room
        self._nbytes = nbytes
        self._permit = permit

    @property
    def worth(self) -> int:
        """How many permits it holds."""
        return self._permit.worth

    @property
    def pool(self) -> Pool:
        """The pool that the permits belong to."""
        return self._permit.pool

    def release(self) -> None:
        """Give the permits and the room back."""
        self._room.give_back(self._nbytes)
        self._permit.release()


def whole_length(part: Message) -> int | None:
    """The announced length of a request, from its first part; None if it is not to be joined."""
    found = _WHOLE.search(part.headers.encode())
    return int(found[1]) if found is not None else None


def _headers_of(part: Message) -> bytes:
    """A part's headers, encoded as they came, without the engine's own header."""
    return _WHOLE.sub(b"", part.headers.encode())

"""The bytes that a decoder was fed and has not made into messages yet."""

from __future__ import annotations

from typing import Final

from ..core import DecoderFields
from .arriving import Arriving
from .binary_header import HEADER, HEADER_SIZE
from .exemptions import Exemptions
from .lifecycle import UNDECIDED, State
from .op_code import PEER_BITS

_unpack: Final = HEADER.unpack_from


class Undecoded(DecoderFields):
    """The bytes that a ``Decoder`` keeps until it can continue, and what it waits for.

    This is a base class, not an object of its own, because the decoder's loop reads and writes
    these attributes for each chunk.

    Args:
        state: the initial state of the channel.

    Attributes:
        state: the state of the channel. The decoder updates it for what is received, the owner for
            what is sent.
        exempt: which regular messages take no permit; None if all take one.
        needs: the number of permits that the decoder waits for; 0 unless it is starved.
        arriving: the message of which only a part has arrived, or None.
        waiting: bytes that wait, from ``_at`` on, for a permit, for the next portion, or for the
            answer to the peer's Hello.
    """

    __slots__ = ()

    def __init__(self, state: State) -> None:
        self.state = state
        self.exempt: Exemptions | None = None
        self.needs = 0
        self._ended = False  # after a violation or close: no byte becomes a message any more
        # At most one of the next three holds anything.
        self._header = b""  # the start of one
        self.arriving: Arriving | None = None
        self.waiting = b""
        self._at = 0

    @property
    def starved(self) -> bool:
        """Whether the decoder waits for permits."""
        return self.needs > 0

    @property
    def needs_none(self) -> bool:
        """Whether what waits for permits has become exempt, because it was asked for meanwhile."""
        exempt = self.exempt
        if not self.needs or exempt is None:
            return False
        _, proto, status, message_id, headers_len, body_len = _unpack(self.waiting, self._at)
        proto &= PEER_BITS
        asks = exempt.tables[self.state][proto] is None
        length = HEADER_SIZE + headers_len + body_len
        return asks and not exempt.pays(proto, message_id, status, length)

    @property
    def pending(self) -> bool:
        """Whether ``more`` would decode anything."""
        return not self.needs and bool(self.waiting) and self.state not in UNDECIDED

    @property
    def early(self) -> bool:
        """Whether bytes wait for the answer to the peer's Hello."""
        return bool(self.waiting) and self.state in UNDECIDED

    @property
    def held(self) -> int:
        """The number of bytes kept here."""
        arriving = self.arriving.nbytes if self.arriving is not None else 0
        return len(self._header) + arriving + len(self.waiting) - self._at

    @property
    def promised(self) -> int:
        """The number of permits that an incomplete message holds."""
        permit = self.arriving.message._permit if self.arriving is not None else None
        return permit.worth if permit is not None else 0

    def _keep(self, data: bytes | memoryview, at: int) -> None:
        """Keep what cannot be decoded yet. Bytes are kept by reference, for they may be many."""
        if self._ended:
            return
        if self.arriving is not None:
            self.arriving.collect(memoryview(data)[at + HEADER_SIZE :])
        elif len(data) - at < HEADER_SIZE:
            self._header = bytes(data[at:])
        elif isinstance(data, bytes):
            self.waiting, self._at = data, at
        else:
            self.waiting, self._at = bytes(data[at:]), 0

    def _release_arriving(self) -> None:
        if self.arriving is not None:
            self.arriving.message.release()

    def _end(self) -> None:
        """Drop everything, so that no byte becomes a message any more."""
        self._ended = True
        self._release_arriving()
        self._header, self.arriving, self.waiting, self._at = b"", None, b"", 0

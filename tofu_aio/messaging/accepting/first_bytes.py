"""What a caller must have said to wait for a place: else one byte would do, and cost nobody."""

from __future__ import annotations

import struct
from typing import Final

from ...protocol.binary_header import HEADER_SIZE, BinaryHeader
from ...protocol.op_code import OP_CODE_MASK, OpCode
from ..limits import EARLY_BYTES

_RECORD_HEADER: Final = struct.Struct(">BBBH")
"""Type, version, length (RFC 8446, 5.1)."""

_HANDSHAKE: Final = 22
_TLS: Final = 3
"""The major version, of all of them."""


def hello_bytes(early: bytes) -> int | None:
    """How many of the first bytes must be here: the whole Hello, or as much as is read of one.

    As far as is known yet; None if this is no Hello.
    """
    if len(early) < HEADER_SIZE:
        return HEADER_SIZE
    header = BinaryHeader.unpack(early)
    if header.proto & OP_CODE_MASK != OpCode.HELLO_REQUEST:
        return None
    return min(header.frame_size, EARLY_BYTES)


def client_hello_bytes(early: bytes) -> int | None:
    """The same where TLS comes first, of which the first record is to be here."""
    if len(early) < _RECORD_HEADER.size:
        return _RECORD_HEADER.size
    kind, major, _, length = _RECORD_HEADER.unpack_from(early)
    if (kind, major) != (_HANDSHAKE, _TLS):
        return None
    return min(_RECORD_HEADER.size + int(length), EARLY_BYTES)

"""The first bytes that a pending connection must have sent before it waits for a slot.

Without this requirement, one byte would be enough to wait, at no cost for an attacker.
"""

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
"""The major version of all TLS versions."""


def hello_bytes(early: bytes) -> int | None:
    """Return how many bytes must have arrived: the whole Hello, or as much of it as is read ahead.

    Until the header is complete, this is the size of the header. None if it is not a Hello.
    """
    if len(early) < HEADER_SIZE:
        return HEADER_SIZE
    header = BinaryHeader.unpack(early)
    if header.proto & OP_CODE_MASK != OpCode.HELLO_REQUEST:
        return None
    return min(header.frame_size, EARLY_BYTES)


def client_hello_bytes(early: bytes) -> int | None:
    """Return how many bytes of TLS must have arrived: the first record. None if it is not TLS."""
    if len(early) < _RECORD_HEADER.size:
        return _RECORD_HEADER.size
    kind, major, _, length = _RECORD_HEADER.unpack_from(early)
    if (kind, major) != (_HANDSHAKE, _TLS):
        return None
    return min(_RECORD_HEADER.size + int(length), EARLY_BYTES)

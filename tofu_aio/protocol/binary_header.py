"""The fixed part of every frame: 16 bytes, big-endian."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from .op_code import MORE_BIT, OP_CODE_MASK, OP_CODES, ORIGIN_BIT, OpCode, Origin
from .status import STATUSES, Status

HEADER: Final = struct.Struct(">HBBQHH")
"""Channel number, proto, status, message id, length of the text headers, length of the body."""

HEADER_SIZE: Final = HEADER.size
MAX_PART: Final = 0xFFFF
"""The largest size, in bytes, of the text headers of a message, and also of its body."""

MAX_FRAME: Final = HEADER_SIZE + 2 * MAX_PART
MAX_MESSAGE_ID: Final = 2**64 - 1

UNASSIGNED_CHANNEL: Final = 0
MAX_CHANNEL: Final = 65534
ENGINE_CHANNEL: Final = 65535


class BinaryHeader(NamedTuple):
    """The first 16 bytes of a frame, unpacked. Their values are not checked."""

    channel_number: int
    proto: int
    status_byte: int
    message_id: int
    text_headers_len: int
    body_len: int

    @property
    def op_code(self) -> OpCode:
        """What the message does.

        Raises:
            IndexError: the four bits are none of the ten op codes.
        """
        return OP_CODES[self.proto & OP_CODE_MASK]

    @property
    def origin(self) -> Origin:
        """Whether the application or the engine made the message."""
        return Origin.ENGINE if self.proto & ORIGIN_BIT else Origin.APPLICATION

    @property
    def more(self) -> bool:
        """Whether more parts follow under the same message id."""
        return bool(self.proto & MORE_BIT)

    @property
    def status(self) -> Status:
        """The status. A byte beyond the last known one means UNKNOWN_ERROR."""
        return STATUSES[self.status_byte]

    @property
    def frame_size(self) -> int:
        """The size of the whole frame in bytes, this header included."""
        return HEADER_SIZE + self.text_headers_len + self.body_len

    def pack(self) -> bytes:
        """The 16 bytes as they are sent."""
        return HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, offset: int = 0) -> BinaryHeader:
        """Read the header whose 16 bytes start at ``offset``.

        Raises:
            struct.error: there are fewer than 16 bytes.
        """
        return cls._make(HEADER.unpack_from(data, offset))

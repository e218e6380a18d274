"""What a message does: its op code, and the one byte of the header that carries it.

The protocol calls that byte *proto*: bits 0 to 3 are the op code, bit 4 is the origin, bit 5 is
"more". Bits 6 and 7 are for internal use: they are sent as 0 and ignored when received.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class MessageType(StrEnum):
    """The family of an op code."""

    REGULAR = "regular"
    WELCOME = "welcome"
    HELLO = "hello"
    BYE = "bye"


class Role(StrEnum):
    """The role of an op code in a conversation."""

    REQUEST = "request"
    RESPONSE = "response"
    SIGNAL = "signal"


class Origin(IntEnum):
    """Whether the application made a message, or the engine as a status notification."""

    APPLICATION = 0
    ENGINE = 1


class OpCode(IntEnum):
    """What a message asks for or answers. The values are those on the wire."""

    REQUEST = 0
    RESPONSE = 1
    SIGNAL = 2
    HELLO_REQUEST = 3
    HELLO_RESPONSE = 4
    BYE_REQUEST = 5
    BYE_RESPONSE = 6
    BYE_SIGNAL = 7
    WELCOME_REQUEST = 8
    WELCOME_RESPONSE = 9

    @property
    def message_type(self) -> MessageType:
        """The family: regular, welcome, hello or bye."""
        family = self.name.rpartition("_")[0].lower()
        return MessageType(family) if family else MessageType.REGULAR

    @property
    def role(self) -> Role:
        """The role: request, response or signal."""
        return Role(self.name.rpartition("_")[2].lower())


OP_CODE_MASK: Final = 0x0F
ORIGIN_BIT: Final = 0x10
MORE_BIT: Final = 0x20
PUBLIC_BITS: Final = OP_CODE_MASK | ORIGIN_BIT | MORE_BIT
"""The bits of proto that have a meaning between peers. The others are cleared on receipt."""
PEER_BITS: Final = PUBLIC_BITS & ~ORIGIN_BIT
"""The bits that a peer may set. A peer that set the origin could pass its message off as a
notification of our own engine."""
ANSWERED_BIT: Final = 0x40
"""Set on a received request, on this side only, once it was replied to."""

OP_CODES: Final[tuple[OpCode, ...]] = tuple(OpCode)
"""The op codes by value. Indexing is several times faster than calling the enum."""


def pack_proto(op_code: OpCode, *, origin: Origin = Origin.APPLICATION, more: bool = False) -> int:
    """The proto byte of a message with these properties."""
    return op_code | origin << 4 | more << 5

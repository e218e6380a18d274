"""What a message does: its op code, and the one byte of the header that carries it.

The byte is called *proto* on the wire: bits 0-3 are the op code, bit 4 the origin, bit 5 "more".
Bits 6 and 7 belong to the sender's internals: never sent set, ignored when received.
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
    """The part an op code plays in a conversation."""

    REQUEST = "request"
    RESPONSE = "response"
    SIGNAL = "signal"


class Origin(IntEnum):
    """Who made a message: the application, or the engine as a status notification."""

    APPLICATION = 0
    ENGINE = 1


class OpCode(IntEnum):
    """What a message asks for or answers. The values are on the wire."""

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
        """The part it plays: request, response or signal."""
        return Role(self.name.rpartition("_")[2].lower())


OP_CODE_MASK: Final = 0x0F
ORIGIN_BIT: Final = 0x10
MORE_BIT: Final = 0x20
PUBLIC_BITS: Final = OP_CODE_MASK | ORIGIN_BIT | MORE_BIT
"""The bits of proto that mean something between peers; the rest is masked away on receipt."""
ANSWERED_BIT: Final = 0x40
"""On a received request, here only: it was replied to."""

OP_CODES: Final[tuple[OpCode, ...]] = tuple(OpCode)
"""Op code by value: indexing is several times faster than calling the enum."""


def pack_proto(op_code: OpCode, *, origin: Origin = Origin.APPLICATION, more: bool = False) -> int:
    """The proto byte of a message."""
    return op_code | origin << 4 | more << 5

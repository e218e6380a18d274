"""The drain notice: the bare header by which a side announces that it will close its channel."""

from __future__ import annotations

from typing import Final

from .binary_header import HEADER_SIZE
from .op_code import OpCode
from .status import Status

DRAIN_NOTICE: Final = int(OpCode.SIGNAL)
"""The proto byte of a notice. Like a heartbeat, it is a signal with the id 0, which no message has.
Its status tells it from a heartbeat."""

DRAINS: Final = Status.SHUTDOWN_STARTED
"""The status of a notice."""


def is_drain_notice(proto: int, status: int, length: int) -> bool:
    """Whether a frame of ``length`` bytes with the id 0 announces that its sender will close.

    A notice is only sent to peers that have said that they understand it, and only once.
    """
    return proto == DRAIN_NOTICE and status == DRAINS and length == HEADER_SIZE

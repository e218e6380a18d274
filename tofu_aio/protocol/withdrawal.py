"""Taking a request back: the bare header that a sender puts after a request it has given up."""

from __future__ import annotations

from typing import Final

from .binary_header import HEADER_SIZE
from .op_code import MORE_BIT, OpCode
from .status import LEFT

WITHDRAWAL: Final = int(OpCode.REQUEST) | MORE_BIT
"""The proto byte of a withdrawal: a request with more parts to follow."""


def is_withdrawal(proto: int, status: int, length: int) -> bool:
    """Whether a request of ``length`` bytes takes back the one that was sent under the same id.

    A withdrawal is only sent to peers that have said that they understand it.
    """
    return proto == WITHDRAWAL and status == LEFT and length == HEADER_SIZE

"""A received request is answered once: the mark on it, and the errors of a second answer."""

from __future__ import annotations

from typing import Final
from weakref import ref

from ...protocol.errors import InvalidMoreUsage, InvalidOpCode, NotAllowed, TofuError
from ...protocol.message import Message
from ...protocol.op_code import ANSWERED_BIT, OpCode

_REQUEST: Final = int(OpCode.REQUEST)

ANSWERED: Final = _REQUEST | ANSWERED_BIT
"""The proto byte of a received request that was answered."""


class Claim:
    """Marks a request as answered while its answer waits to be sent, and does not keep it alive.

    Args:
        request: which is answered.
    """

    def __init__(self, request: Message) -> None:
        self._request = ref(request)
        request._proto = ANSWERED

    def withdraw(self) -> None:
        """The request was not answered after all."""
        request = self._request()
        if request is not None:
            request._proto = _REQUEST


def not_to_be_answered(request: Message) -> TofuError:
    """Why a message cannot be replied to."""
    if request._proto & ANSWERED_BIT:
        return NotAllowed(f"request {request.message_id} was answered already: it has one response")
    if request.op_code is not OpCode.REQUEST:
        return InvalidOpCode(f"a REQUEST is replied to, not {request.op_code.name}")
    return InvalidMoreUsage(
        f"this is a part of request {request.message_id}, and more follow: answer all of it, with "
        "'async with channel.stream(request) as exchange'"
    )

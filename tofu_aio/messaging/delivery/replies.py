"""The mark on a received request that it was answered, and the errors for a second answer."""

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
        request: the one that is answered.
    """

    def __init__(self, request: Message) -> None:
        self._request = ref(request)
        request._proto = ANSWERED

    def withdraw(self) -> None:
        """Remove the mark: the request was not answered after all."""
        request = self._request()
        if request is not None:
            request._proto = _REQUEST


def not_to_be_answered(request: Message) -> TofuError:
    """The error for a reply to a message that cannot be replied to."""
    if request._proto & ANSWERED_BIT:
        return NotAllowed(
            f"request {request.message_id} was answered already: a request has one response"
        )
    if request.op_code is not OpCode.REQUEST:
        return InvalidOpCode(f"reply() takes a received REQUEST, not {request.op_code.name}")
    return InvalidMoreUsage(
        f"this is a part of request {request.message_id}, and more follow: answer the whole "
        "request with 'async with channel.stream(request) as exchange'"
    )

"""Which regular messages the decoder makes without a permit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol, TypeAlias

from ..core import ExemptionsFields
from .lifecycle import VERDICTS, State
from .op_code import MORE_BIT, OP_CODE_MASK, OpCode
from .status import Status
from .withdrawal import WITHDRAWAL, is_withdrawal

_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)

Tables: TypeAlias = Mapping[State, tuple[State | Status | None, ...]]
"""The verdict on each proto byte in each state; None where an ``Exemptions`` must be asked."""


class JoinedSoFar(Protocol):
    """The parts of a request that have arrived and are joined into one."""

    @property
    def length(self) -> int:
        """Their size in bytes."""


_NO_PARTS: Final[Mapping[int, JoinedSoFar | None]] = {}


class Exemptions(ExemptionsFields):
    """Which regular messages take no permit, because room was made for them beforehand.

    A message can change which others are exempt: after the last part of a request, the id of that
    request means nothing any more. So the decoder stops after such a message until the owner has
    sorted it.

    Attributes:
        awaited: ids of the requests whose responses take no permit: a ``request()`` waits for each.
        exchanges, posted: ids of other requests that were sent, whose responses take permits: those
            that are answered in parts, and those whose response is received like any other message.
            A response to no request known here takes no permit, and is dropped.
        strays: whether responses to unknown requests may arrive, because a caller has given up
            waiting.
        parts: the peer's requests in parts, by id: what has arrived of those that are joined, and
            None for those that are dropped. Only the last part takes permits, for the whole.
        shared: whether several channels share it, because none of them has asked anything yet.
        withdrawals: whether the peer takes requests back, see ``is_withdrawal``.
        drain_noted: whether the peer's drain notice has arrived, so that no other may follow.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        awaited: Collection[int] = (),
        exchanges: Collection[int] = (),
        posted: Collection[int] = (),
        parts: Mapping[int, JoinedSoFar | None] = _NO_PARTS,
        shared: bool = False,
        withdrawals: bool = False,
    ) -> None:
        self.awaited = awaited
        self.exchanges = exchanges
        self.posted = posted
        self.parts = parts
        self.shared = shared
        self.strays = False
        self.withdrawals = withdrawals
        self.drain_noted = False

    @property
    def tables(self) -> Tables:
        """The verdicts, with None where ``pays`` must be asked: for as few messages as possible."""
        if self.parts:
            return _ASK_ALL
        if not self.posted or self.exchanges or self.awaited or self.strays:
            return ASK_RESPONSES
        return _ASK_NO_RESPONSES

    def pays(self, proto: int, message_id: int, status: int, length: int) -> int:
        """The number of bytes for which a message of ``length`` bytes must take permits.

        It is 0 for an exempt message, and more than ``length`` for the last part of a request.
        """
        if proto & OP_CODE_MASK == _RESPONSE:
            counted = message_id in self.posted or message_id in self.exchanges
            return length if counted else 0
        if message_id in self.parts:
            so_far = self.parts[message_id]
            return 0 if proto & MORE_BIT or so_far is None else so_far.length + length
        taken_back = self.withdrawals and is_withdrawal(proto, status, length)
        return 0 if taken_back else length


def _asking(*asked: int) -> Tables:
    """The verdicts, with None for regular messages that have one of these proto bytes."""
    return {
        state: tuple(
            None if verdict is state and proto in asked else verdict
            for proto, verdict in enumerate(verdicts)
        )
        for state, verdicts in VERDICTS.items()
    }


_ASK_NO_RESPONSES: Final = _asking(WITHDRAWAL)
"""For when all responses answer posted requests, and take permits: asking would be slower."""
ASK_RESPONSES: Final = _asking(WITHDRAWAL, _RESPONSE, _RESPONSE | MORE_BIT)
"""For most channels: only responses, and what may be a withdrawal, may be exempt."""
_ASK_ALL: Final = _asking(WITHDRAWAL, _RESPONSE, _RESPONSE | MORE_BIT, _REQUEST)
"""For when the peer has begun requests in parts: the last part of one is a plain request."""

"""Bytes in, messages out: incremental, bounded by the pool, strict about the wire format."""

from __future__ import annotations

import sys
from typing import Final

from ..core import fast
from .account import PERMIT, Account
from .arriving import Arriving
from .binary_header import HEADER, HEADER_SIZE
from .drain_notice import DRAINS, is_drain_notice
from .errors import ERRORS, InvalidMessage, InvalidMessageId, TofuError
from .exemptions import ASK_RESPONSES as _ASK_RESPONSES
from .exemptions import Tables
from .lifecycle import UNDECIDED, VERDICTS, State
from .message import Message
from .op_code import MORE_BIT, OP_CODE_MASK, OP_CODES, PUBLIC_BITS, MessageType, OpCode, Role
from .op_code import PEER_BITS as _PEER_BITS
from .pool import Permit, Pool
from .status import STATUSES, Status
from .text_headers import EMPTY_HEADERS, decoded
from .undecoded import Undecoded
from .violations import out_of_turn, wrong_id
from .withdrawal import WITHDRAWAL

_unpack: Final = HEADER.unpack_from
_new: Final = Message.__new__
_REQUEST: Final = int(OpCode.REQUEST)
_SIGNAL: Final = int(OpCode.SIGNAL)
_PLAIN: Final = frozenset({_REQUEST, _SIGNAL})
_BOUNDLESS: Final = sys.maxsize


class Decoder(Undecoded):
    """The receiving half of one channel. The messages do not depend on how the bytes are split.

    A regular message takes its permits, or the channel's reserve, once its header is complete. If
    there are none, the decoder is *starved*: it keeps the bytes and waits for ``resume``. Hello and
    Bye need no permit, so that control messages are never held up; ``lifecycle`` allows each of
    them once, which bounds them. Messages covered by ``exempt`` need none either.

    One call makes at most ``portion`` messages that take a single permit, and as many that take
    none; long messages are not counted. While fed bytes are left over, the decoder is ``pending``,
    and ``more`` decodes the next portion.

    The first frame that breaks a rule ends decoding. Neither it nor anything after it becomes a
    message, and ``violation`` says why.

    What follows the peer's Hello is kept until the owner has answered it and has moved ``state``
    on. Until then the decoder is ``early``, afterwards it is ``pending``.

    A heartbeat is a signal of 16 bytes with the id 0, which no message has. It needs no permit and
    does not become a message. A drain notice differs from it by its status, and becomes one for the
    owner to take out.

    Args:
        pool: where permits are taken from; None takes none.
        state: the initial state of the channel.
        channel_number: the local number, which replaces the sender's; None keeps the sender's.

    Attributes:
        violation: why decoding ended, or None.
        account: what the channel holds of the pool; None if nothing is taken.
        special: whether a message was made that the owner has to sort: a response, a request with
            more parts, or a drain notice. The owner sets it back to False.
        awaited_id: the id that the answer to our Hello or Bye must have; 0 accepts any.
        asked_id: the id that our answer to the peer's Hello or Bye must have; 0 before one arrives.
        heartbeats: None if none are allowed; False until the peer is known to send them; True once
            it has announced them or has sent one.
        offset: the number of bytes of the stream that have become messages.
    """

    __slots__ = ()

    def __init__(
        self,
        pool: Pool | None,
        state: State,
        channel_number: int | None = None,
    ) -> None:
        super().__init__(state)
        self.violation: TofuError | None = None
        self.account = None if pool is None else Account(pool)
        self.special = False
        self.awaited_id = 0
        self.asked_id = 0
        self.offset = 0
        self.heartbeats: bool | None = None
        self._number = channel_number

    @fast
    def feed(self, data: bytes | memoryview, portion: int = _BOUNDLESS) -> list[Message]:
        """Decode what the peer sent and return the messages that it completes, in order.

        No reference to a memoryview is kept. A body is copied once, or twice if it has to wait.
        """
        batch: list[Message] = []
        at = 0
        if self.waiting:
            self.waiting = self.waiting[self._at :] + bytes(data)
            self._at = 0
            return batch
        if self._header:
            at = HEADER_SIZE - len(self._header)
            header, self._header = self._header + bytes(data[:at]), b""
            self._parse(header, 0, batch, portion)
            if self.needs or self.early:
                self.waiting += bytes(data[at:])
                return batch
        if self.arriving is not None:
            at += self.arriving.collect(memoryview(data)[at:])
            if self.arriving.missing:
                return batch
            self._complete(self.arriving, batch)
        if at < len(data):
            if batch and self._is_sorted_first(batch[-1]):
                self._keep(data, at)
            else:
                self._parse(data, at, batch, portion)
        return batch

    def more(self, portion: int) -> list[Message]:
        """Decode the next portion of what was fed; nothing unless the decoder is ``pending``."""
        return self._go_on(portion) if not self.needs else []

    def resume(self, portion: int = _BOUNDLESS, granted: int = 0) -> list[Message]:
        """Continue after starving, with the reserve or with ``granted`` permits that are free now.

        More permits are taken only while no other channel waits. If nothing can be taken, the
        decoder is starved again. A decoder that is not starved does nothing.
        """
        needs, self.needs = self.needs, 0
        return self._go_on(portion, granted) if needs else []

    def stop_counting(self) -> None:
        """Take no permits from now on: messages will be dropped, and only Bye matters.

        A starved decoder can ``resume`` at once.
        """
        self._release_arriving()
        self.account = None

    def close(self) -> None:
        """Drop the bytes of incomplete messages, with their permits, and ignore all later ones."""
        self._end()
        self.needs = 0

    def _go_on(self, portion: int, granted: int = 0) -> list[Message]:
        batch: list[Message] = []
        chunk, self.waiting = self.waiting, b""
        at, self._at = self._at, 0
        self._parse(chunk, at, batch, portion, granted)
        return batch

    @fast
    def _parse(  # noqa: C901, PLR0912, PLR0915 - one loop without calls is the point
        self,
        data: bytes | memoryview,
        at: int,
        batch: list[Message],
        portion: int,
        granted: int = 0,
    ) -> None:
        """Decode a portion of the frames from ``at`` on; ``granted`` permits are guaranteed.

        The hot loop of the library: local names, one pass, and no call that can be avoided.
        """
        if self._ended:
            return
        account, number, state = self.account, self._number, self.state
        bits = PUBLIC_BITS if number is None else _PEER_BITS
        if account is None:
            budget, take, unit = _BOUNDLESS, _take_none, _BOUNDLESS
        else:
            pool = account.pool
            free, taken = pool.free, len(account.taken) + len(account.bundled)
            if len(free) * pool.share > portion + taken and not pool.waiters:
                budget = portion + 1  # account.budget() would return at least that; saves the call
            else:
                budget = account.budget()
            if budget < granted:  # noqa: PLR1730 - max takes longer, and this runs for each chunk
                budget = granted
            take, unit = free.pop, pool.unit
        exempt = self.exempt
        if exempt is None:
            tables: Tables = VERDICTS
        elif exempt.shared or not (exempt.posted or exempt.parts or exempt.exchanges):
            tables = _ASK_RESPONSES  # as on most channels; saves a call
        else:
            tables = exempt.tables
        verdicts = tables[state]
        quota = left = budget if budget < portion else portion  # noqa: FURB136 - min is slower
        gratis, broken = portion, None
        start, end = at, len(data)
        last = end - HEADER_SIZE
        while at <= last:
            sender, proto, status, message_id, headers_len, body_len = _unpack(data, at)
            proto &= bits
            verdict = verdicts[proto]
            body_at = at + HEADER_SIZE + headers_len
            stop = body_at + body_len
            permit: Permit | None = account
            if verdict is state and message_id:
                if left < 1 or stop - at > unit:
                    spent = quota - left
                    if left < 1 and spent < budget and stop - at <= unit:
                        break  # a portion is complete
                    permit = self._take(stop - at, budget - spent)
                    if permit is None:
                        break
                    if permit is not account:
                        budget -= permit.worth
                        left = max(min(left, budget - spent), 0)
                        quota = spent + left
                else:
                    try:
                        take()
                    except IndexError:  # another thread took it: as if it had been gone before
                        budget = quota = quota - left
                        left = 0
                        continue
                    left -= 1
            elif verdict is None and message_id:
                assert exempt is not None
                verdict, self.special = state, True
                if gratis < 1:
                    break  # a portion of these is complete
                gratis -= 1
                if proto == WITHDRAWAL and headers_len:
                    last = at  # may begin a request in parts: once sorted, it is in ``parts``
                elif not proto & MORE_BIT and message_id in exempt.parts:
                    gratis = 0  # its id means nothing any more once this was sorted
                pays = exempt.pays(proto, message_id, status, stop - at)
                if not pays or account is None:
                    permit = None
                else:
                    held, spent = account.held, quota - left
                    permit = self._take(pays, budget - spent, joined=pays > stop - at)
                    if permit is None:
                        break
                    budget -= account.held - held
                    left = max(min(left, budget - spent), 0)
                    quota = spent + left
            elif not message_id and self._beats(verdict, proto, status, stop - at):
                at = stop
                continue
            elif not message_id and self._announces(verdict, proto, status, stop - at):
                permit, self.special = None, True
                last = at  # until the owner has noted it, another one would be allowed
            elif self._control(verdict, proto, message_id, at - start):
                permit = None
            else:
                break
            message: Message = _new(Message)
            message._permit = permit
            message._proto = proto
            message.status = STATUSES[status]
            message.channel_number = sender if number is None else number
            message.message_id = message_id
            message.headers = EMPTY_HEADERS
            if stop > end:
                message.body = b""
                self.arriving = Arriving(message, headers_len, body_len)
                break
            message.body = data[body_at:stop]  # type: ignore[assignment]  # a view is copied below
            if headers_len:
                try:
                    message.headers = decoded(bytes(data[at + HEADER_SIZE : body_at]))
                except InvalidMessage as error:
                    self._violate(type(error), str(error), at - start)
                    broken = message
                    break
            batch.append(message)
            at = stop
            if verdict is not state:
                assert isinstance(verdict, State)
                self.state = state = verdict
                verdicts = tables[state]
        if type(data) is memoryview:
            for message in batch:
                message.body = bytes(message.body)
        if quota > left and account is not None:
            if quota - left == 1 and account.reserved:
                account.taken.append(PERMIT)  # as account.charge(1) does; saves the call
            else:
                account.charge(quota - left)
        if broken is not None:
            broken.release()
        self.offset += at - start
        if at < end:
            self._keep(data, at)

    def _is_sorted_first(self, message: Message) -> bool:
        """Whether what follows cannot be decoded until the owner has sorted this message.

        That is so for the first and for the last part of a request, and for a drain notice.
        """
        exempt, proto = self.exempt, message._proto
        if exempt is None:
            return False
        begins = proto == WITHDRAWAL and message.headers is not EMPTY_HEADERS
        ends = proto == _REQUEST and message.message_id in exempt.parts
        return begins or ends or not message.message_id

    def _take(self, length: int, budget: int, *, joined: bool = False) -> Permit | None:
        """Take the reserve or the permits of a long message; without either, starve."""
        account = self.account
        assert account is not None
        price = account.pool.price(length)
        if joined:  # bytes that its permits do not cover stay counted in the joining room
            price = min(price, account.pool.largest_share)
        permit = account.acquire(price, budget, apart=joined)
        if permit is None:
            self.needs = price
        return permit

    def _complete(self, arriving: Arriving, batch: list[Message]) -> None:
        """Add a message to the batch whose last byte has arrived."""
        self.arriving = None
        message = arriving.message
        # The owner may have moved ``state`` on since the header was judged.
        verdict = VERDICTS[self.state][message._proto]
        if verdict is not self.state and not self._control(
            verdict, message._proto, message.message_id, 0
        ):
            message.release()
            return
        try:
            message.headers, message.body = arriving.content()
        except InvalidMessage as error:
            self._violate(type(error), str(error), 0)
            message.release()
            return
        assert isinstance(verdict, State)
        self.state = verdict
        self.offset += arriving.nbytes
        if self.exempt is not None and message._proto not in _PLAIN:
            self.special = True
        batch.append(message)

    def _beats(self, verdict: State | Status | None, proto: int, status: int, length: int) -> bool:
        """Whether a frame with the id 0 is a heartbeat. If so, it is noted."""
        bare = proto == _SIGNAL and length == HEADER_SIZE and status != DRAINS
        if self.heartbeats is None or not bare or verdict is not self.state:
            return False
        self.heartbeats = True
        return True

    def _announces(
        self, verdict: State | Status | None, proto: int, status: int, length: int
    ) -> bool:
        """Whether a frame with the id 0 is the peer's drain notice, which may come once."""
        exempt = self.exempt
        if exempt is None or exempt.drain_noted or verdict is not self.state:
            return False
        return is_drain_notice(proto, status, length)

    def _control(
        self, verdict: State | Status | None, proto: int, message_id: int, ahead: int
    ) -> bool:
        """Check the header of anything but a plain regular message; return whether it is allowed.

        Until the peer's Hello is answered nothing else is allowed, but that is no violation.
        """
        if isinstance(verdict, Status):
            if self.state not in UNDECIDED:
                self._violate(ERRORS[verdict], out_of_turn(verdict, proto, self.state), ahead)
            return False
        op_code = OP_CODES[proto & OP_CODE_MASK]
        answers = op_code.message_type is not MessageType.REGULAR and op_code.role is Role.RESPONSE
        beats = proto == _SIGNAL and self.state is State.OVERHEARD  # a capture has heartbeats
        if not (message_id or beats) or (answers and self.awaited_id not in {0, message_id}):
            expected = self.awaited_id if answers else 0
            self._violate(InvalidMessageId, wrong_id(op_code, message_id, expected), ahead)
            return False
        if op_code.role is Role.REQUEST:
            self.asked_id = message_id
        return True

    def _violate(self, error: type[TofuError], text: str, ahead: int) -> None:
        self.violation = error(f"at byte {self.offset + ahead}: {text}")
        self._end()


def _take_none() -> None:
    """Stands in for taking a permit where no permits are counted."""

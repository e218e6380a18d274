"""Bytes in, messages out: incremental, bounded by the pool, strict about the wire."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from .binary_header import HEADER, HEADER_SIZE
from .errors import ERRORS, InvalidMessage, InvalidMessageId, TofuError
from .lifecycle import VERDICTS, State
from .message import Message
from .op_code import (
    OP_CODE_MASK,
    OP_CODES,
    ORIGIN_BIT,
    PUBLIC_BITS,
    MessageType,
    OpCode,
    Role,
)
from .pool import Account, Permit, Pool
from .status import STATUSES, Status
from .text_headers import EMPTY_HEADERS, TextHeaders

_unpack: Final = HEADER.unpack_from
_new: Final = object.__new__
_SIGNAL: Final = int(OpCode.SIGNAL)
_NOTHING: Final[deque[None]] = deque()
_PEER_BITS: Final = PUBLIC_BITS & ~ORIGIN_BIT
"""Origin is not a peer's to claim: it would pass for a notification of our own engine."""


class Decoder:
    """The receiving half of one channel: any split of the bytes gives the same messages.

    A regular message takes its permits when its header is complete. Without them the decoder
    is *starved*: it keeps what it has and waits for ``resume``. Hello and Bye need no permit, so
    that control is never held up; ``lifecycle`` lets each come once, which bounds them.

    The first frame that breaks a rule ends decoding: it and all after it never become messages,
    ``violation`` says why.

    A heartbeat is a signal of 16 bytes with the id 0, which no message has. It needs no permit
    and becomes no message.

    Args:
        pool: what permits are taken from; None takes none.
        state: where the channel's life begins.
        channel_number: the local number that replaces the sender's; None keeps the sender's.

    Attributes:
        state: where the channel is in its life. The decoder moves it for what is received,
            the owner for what is sent.
        violation: why decoding ended, or None.
        account: what the channel holds of the pool; None where nothing is taken.
        needs: how many permits it waits for; 0 unless it is starved.
        awaited_id: the id that the answer to our Hello or Bye must carry; 0 accepts any.
        asked_id: the id that our answer to the peer's Hello or Bye must carry; 0 before one.
        on_heartbeat: called for each heartbeat; None while none may come.
        offset: how many bytes of the stream have become messages.
    """

    __slots__ = (
        "_at",
        "_chunk",
        "_ended",
        "_number",
        "_partial",
        "_permit",
        "_size",
        "account",
        "asked_id",
        "awaited_id",
        "needs",
        "offset",
        "on_heartbeat",
        "state",
        "violation",
    )

    def __init__(self, pool: Pool | None, state: State, channel_number: int | None = None) -> None:
        self.state = state
        self.violation: TofuError | None = None
        self.account = None if pool is None else Account(pool)
        self.needs = 0
        self.awaited_id = 0
        self.asked_id = 0
        self.offset = 0
        self.on_heartbeat: Callable[[], None] | None = None
        self._ended = False  # by a violation or close: no byte becomes a message any more
        self._number = channel_number
        self._permit: Permit | None = None  # of the frame in _partial, or at _at
        self._partial: bytearray | None = None  # the start of an incomplete frame
        self._size = 0  # of the frame in _partial; HEADER_SIZE while even that is not known
        self._chunk = b""  # what waits for a permit, from _at on
        self._at = 0

    @property
    def starved(self) -> bool:
        """Whether it waits for permits."""
        return self.needs > 0

    @property
    def held(self) -> int:
        """How many bytes wait here: for the rest of a frame, or for a permit."""
        return len(self._partial or b"") + len(self._chunk) - self._at

    @property
    def promised(self) -> int:
        """How many permits a message has that is not whole yet."""
        return self._permit.worth if self._permit is not None else 0

    def feed(self, data: bytes) -> list[Message]:
        """Take what the peer sent and return the messages it completes, in order."""
        batch: list[Message] = []
        if self.needs:
            self._chunk = self._chunk[self._at :] + data
            self._at = 0
            return batch
        partial, at = self._partial, 0
        if partial is not None:
            if self._size > HEADER_SIZE:
                at = self._size - len(partial)
                partial += data[:at]
                if len(partial) < self._size:
                    return batch
                self._partial = None
                self._parse(bytes(partial), 0, batch, 0)  # it has its permit, if it needs one
            else:
                self._partial = None
                data = bytes(partial) + data
        if at < len(data) and not self._ended:
            self._parse(data, at, batch, self.account.budget() if self.account else 0)
        return batch

    def resume(self) -> list[Message]:
        """Go on after starving: take what is needed, and more only while nobody else waits.

        Without that nothing changes; and without starving, for then none is wanted.
        """
        batch: list[Message] = []
        account, budget = self.account, 0
        if not self.needs:
            return batch
        if account is not None:
            self._permit = account.take(self.needs)
            if self._permit is None:
                return batch
            budget = account.budget()
        self.needs = 0
        chunk, self._chunk = self._chunk, b""
        at, self._at = self._at, 0
        self._parse(chunk, at, batch, budget)
        return batch

    def stop_counting(self) -> None:
        """Take no permits from now on: what comes is thrown away, and only Bye matters.

        A starved decoder can ``resume`` at once.
        """
        self._give_back()
        self.account = None

    def close(self) -> None:
        """Drop what will never be complete, and its permit. What is fed from now on is ignored."""
        self._ended = True
        self.needs = 0
        self._partial, self._chunk, self._at = None, b"", 0
        self._give_back()

    def _give_back(self) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release()

    def _parse(  # noqa: C901, PLR0912, PLR0915 - one loop without calls is the point
        self, data: bytes, at: int, batch: list[Message], budget: int
    ) -> None:
        """Decode frames from ``at`` on, as many as there are whole ones, with ``budget`` permits.

        The hot loop of the library: local names, one pass, no call but for what must be made.
        """
        account, number, state = self.account, self._number, self.state
        bits = PUBLIC_BITS if number is None else _PEER_BITS
        granted = budget
        take, unit = _NOTHING.pop, 0
        if account is not None:
            take, unit = account.pool.free.pop, account.pool.unit
        verdicts = VERDICTS[state]
        permit, start, end = self._permit, at, len(data)
        size = HEADER_SIZE
        while at + HEADER_SIZE <= end:
            sender, proto, status, message_id, headers_len, body_len = _unpack(data, at)
            proto &= bits
            verdict = verdicts[proto]
            body_at = at + HEADER_SIZE + headers_len
            stop = body_at + body_len
            if verdict is state and message_id:
                if account is not None and permit is None:
                    try:
                        if budget < 1 or stop - at > unit:
                            raise IndexError
                        take()
                    except IndexError:
                        permit = self._take(stop - at, budget, first=budget == granted)
                        if permit is None:
                            break
                        budget -= permit.worth
                        granted -= permit.worth
                    else:
                        permit = account
                        budget -= 1
            elif not message_id and stop - at == HEADER_SIZE and self._beats(verdict, proto):
                at = stop
                continue
            elif not self._control(verdict, proto, message_id, at - start):
                break
            if stop > end:
                size = stop - at
                break
            message: Message = _new(Message)
            message._permit = permit
            message._proto = proto
            message.status = STATUSES[status]
            message.channel_number = sender if number is None else number
            message.message_id = message_id
            message.body = data[body_at:stop]
            if headers_len:
                try:
                    message.headers = TextHeaders.decode(data[at + HEADER_SIZE : body_at])
                except InvalidMessage as error:
                    self._violate(type(error), str(error), at - start)
                    message.release()
                    permit = None
                    break
            else:
                message.headers = EMPTY_HEADERS
            permit = None
            batch.append(message)
            at = stop
            if verdict is not state:
                assert isinstance(verdict, State)
                self.state = state = verdict
                verdicts = VERDICTS[state]
        if account is not None:
            account.held += granted - budget
        self._permit = permit
        self.offset += at - start
        if at < end:
            self._keep(data, at, size)

    def _take(self, length: int, budget: int, *, first: bool) -> Permit | None:
        """The permits of a long message; or starve. One may be had whatever the share."""
        account = self.account
        assert account is not None
        price = account.pool.price(length)
        alone = first and budget > 0 and not account.held
        permit = account.take(price) if alone or price <= budget else None
        if permit is None:
            self.needs = price
        return permit

    def _beats(self, verdict: State | Status, proto: int) -> bool:
        """Whether a bare header with the id 0 is a heartbeat, which has been heard then."""
        if self.on_heartbeat is None or proto != _SIGNAL or verdict is not self.state:
            return False
        self.on_heartbeat()
        return True

    def _control(self, verdict: State | Status, proto: int, message_id: int, ahead: int) -> bool:
        """Judge a header that is not plainly a regular message. Whether it may come."""
        if isinstance(verdict, Status):
            name = proto & OP_CODE_MASK
            what = OP_CODES[name].name if name < len(OP_CODES) else f"op code {name}"
            more = " with more" if verdict is Status.INVALID_MORE_USAGE else ""
            text = f"{what}{more} may not come in state {self.state.name.lower()}"
            self._violate(ERRORS[verdict], text, ahead)
            return False
        op_code = OP_CODES[proto & OP_CODE_MASK]
        answers = op_code.message_type is not MessageType.REGULAR and op_code.role is Role.RESPONSE
        beats = proto == _SIGNAL and self.state is State.OVERHEARD  # a capture shows heartbeats
        if not (message_id or beats) or (answers and self.awaited_id not in {0, message_id}):
            text = f"{op_code.name} has message id {message_id}"
            if answers:
                text += f" instead of {self.awaited_id}, its request's"
            self._violate(InvalidMessageId, text, ahead)
            return False
        if op_code.role is Role.REQUEST:
            self.asked_id = message_id
        return True

    def _violate(self, error: type[TofuError], text: str, ahead: int) -> None:
        self._ended = True
        self.violation = error(f"at byte {self.offset + ahead}: {text}")

    def _keep(self, data: bytes, at: int, size: int) -> None:
        """Keep what could not be decoded yet: by reference when starved, for it may be long."""
        if self._ended:
            # The owner may have moved ``state`` since the frame's header was judged.
            self._give_back()
        elif self.needs:
            self._chunk, self._at = data, at
        else:
            self._partial = bytearray(memoryview(data)[at:])
            self._size = size

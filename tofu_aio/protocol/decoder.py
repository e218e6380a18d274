"""Bytes in, messages out: incremental, bounded by the pool, strict about the wire."""

from __future__ import annotations

import sys
from typing import Final

from .arriving import Arriving
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
_BOUNDLESS: Final = sys.maxsize
_PEER_BITS: Final = PUBLIC_BITS & ~ORIGIN_BIT
"""Origin is not a peer's to claim: it would pass for a notification of our own engine."""


class Decoder:
    """The receiving half of one channel: any split of the bytes gives the same messages.

    A regular message takes its permits when its header is complete. Without them the decoder
    is *starved*: it keeps what it has and waits for ``resume``. Hello and Bye need no permit, so
    that control is never held up; ``lifecycle`` lets each come once, which bounds them.

    It makes no more messages at a time than the ``portion`` it is told, of those that take one
    permit each; others are not counted. While more of what was fed waits to be decoded it is
    ``pending``, and ``more`` goes on.

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
        arriving: a message that is not whole yet, if one is under way.
        needs: how many permits it waits for; 0 unless it is starved.
        awaited_id: the id that the answer to our Hello or Bye must carry; 0 accepts any.
        asked_id: the id that our answer to the peer's Hello or Bye must carry; 0 before one.
        heartbeats: None while none may come; False while the peer is not known to take part; True
            once it is, because it said so, or because one came.
        offset: how many bytes of the stream have become messages.
        waiting: what was fed and waits for a permit or for its portion, from ``_at`` on.
    """

    __slots__ = (
        "_at",
        "_ended",
        "_header",
        "_number",
        "account",
        "arriving",
        "asked_id",
        "awaited_id",
        "heartbeats",
        "needs",
        "offset",
        "state",
        "violation",
        "waiting",
    )

    def __init__(
        self,
        pool: Pool | None,
        state: State,
        channel_number: int | None = None,
    ) -> None:
        self.state = state
        self.violation: TofuError | None = None
        self.account = None if pool is None else Account(pool)
        self.needs = 0
        self.awaited_id = 0
        self.asked_id = 0
        self.offset = 0
        self.heartbeats: bool | None = None
        self._ended = False  # by a violation or close: no byte becomes a message any more
        self._number = channel_number
        # At most one of these three has something.
        self._header = b""  # the start of one
        self.arriving: Arriving | None = None
        self.waiting = b""
        self._at = 0

    @property
    def starved(self) -> bool:
        """Whether it waits for permits."""
        return self.needs > 0

    @property
    def pending(self) -> bool:
        """Whether ``more`` would go on."""
        return not self.needs and bool(self.waiting)

    @property
    def held(self) -> int:
        """How many bytes wait here: for the rest of a frame, or for a permit."""
        arriving = self.arriving.nbytes if self.arriving is not None else 0
        return len(self._header) + arriving + len(self.waiting) - self._at

    @property
    def promised(self) -> int:
        """How many permits a message has that is not whole yet."""
        permit = self.arriving.message._permit if self.arriving is not None else None
        return permit.worth if permit is not None else 0

    def feed(self, data: bytes | memoryview, portion: int = _BOUNDLESS) -> list[Message]:
        """Take what the peer sent and return the messages it completes, in order.

        Of a memoryview nothing is kept, and no body is copied twice unless it has to wait.
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
            if self.needs:
                self.waiting += bytes(data[at:])
                return batch
        if self.arriving is not None:
            at += self.arriving.take(memoryview(data)[at:])
            if self.arriving.missing:
                return batch
            self._complete(self.arriving, batch)
        if at < len(data):
            self._parse(data, at, batch, portion)
        return batch

    def more(self, portion: int) -> list[Message]:
        """The next portion of what was fed, maybe a larger one; nothing unless it is pending."""
        return self._go_on(portion) if not self.needs else []

    def resume(self, portion: int = _BOUNDLESS) -> list[Message]:
        """Go on after starving: take what is needed, and more only while nobody else waits.

        Without that nothing changes; and without starving, for then none is wanted.
        """
        needs, self.needs = self.needs, 0
        return self._go_on(portion, needs) if needs else []

    def stop_counting(self) -> None:
        """Take no permits from now on: what comes is thrown away, and only Bye matters.

        A starved decoder can ``resume`` at once.
        """
        self._give_back()
        self.account = None

    def close(self) -> None:
        """Drop what will never be complete, and its permit. What is fed from now on is ignored."""
        self._end()
        self.needs = 0

    def _go_on(self, portion: int, needs: int = 0) -> list[Message]:
        batch: list[Message] = []
        chunk, self.waiting = self.waiting, b""
        at, self._at = self._at, 0
        self._parse(chunk, at, batch, portion, needs)
        return batch

    def _give_back(self) -> None:
        if self.arriving is not None:
            self.arriving.message.release()

    def _end(self) -> None:
        """No byte becomes a message any more."""
        self._ended = True
        self._give_back()
        self._header, self.arriving, self.waiting, self._at = b"", None, b"", 0

    def _parse(  # noqa: C901, PLR0912, PLR0915 - one loop without calls is the point
        self, data: bytes | memoryview, at: int, batch: list[Message], portion: int, needs: int = 0
    ) -> None:
        """Decode frames from ``at`` on, a portion of the whole ones; ``needs`` permits are sure.

        The hot loop of the library: local names, one pass, no call but for what must be made.
        """
        if self._ended:
            return
        account, number, state = self.account, self._number, self.state
        bits = PUBLIC_BITS if number is None else _PEER_BITS
        budget, take, unit = _BOUNDLESS, _take_none, _BOUNDLESS
        if account is not None:
            pool, budget = account.pool, account.budget()
            if budget < needs:  # noqa: PLR1730 - max takes longer, for each chunk
                budget = needs
            take, unit = pool.free.pop, pool.unit
        verdicts = VERDICTS[state]
        quota = left = budget if budget < portion else portion  # noqa: FURB136 - so does min
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
                        break  # that is a portion
                    permit = self._take(stop - at, budget - spent, first=not spent)
                    if permit is None:
                        break
                    budget -= permit.worth
                    if left > budget - spent:
                        left = budget - spent if budget > spent else 0
                    quota = spent + left
                else:
                    try:
                        take()
                    except IndexError:  # another thread was faster: as if it had been before
                        budget = quota = quota - left
                        left = 0
                        continue
                    left -= 1
            elif not message_id and stop - at == HEADER_SIZE and self._beats(verdict, proto):
                at = stop
                continue
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
            message.body = data[body_at:stop]  # type: ignore[assignment]  # if a view: below
            if headers_len:
                try:
                    message.headers = TextHeaders.decode(bytes(data[at + HEADER_SIZE : body_at]))
                except InvalidMessage as error:
                    self._violate(type(error), str(error), at - start)
                    message.release()
                    break
            batch.append(message)
            at = stop
            if verdict is not state:
                assert isinstance(verdict, State)
                self.state = state = verdict
                verdicts = VERDICTS[state]
        if type(data) is memoryview:
            for message in batch:
                message.body = bytes(message.body)
        if account is not None:
            account.held += quota - left
        self.offset += at - start
        if at < end:
            self._keep(data, at)

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

    def _complete(self, arriving: Arriving, batch: list[Message]) -> None:
        """The message is whole."""
        self.arriving = None
        message = arriving.message
        # The owner may have moved ``state`` since the header was judged.
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
        batch.append(message)

    def _beats(self, verdict: State | Status, proto: int) -> bool:
        """Whether a bare header with the id 0 is a heartbeat, which has been heard then."""
        if self.heartbeats is None or proto != _SIGNAL or verdict is not self.state:
            return False
        self.heartbeats = True
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
        self.violation = error(f"at byte {self.offset + ahead}: {text}")
        self._end()

    def _keep(self, data: bytes | memoryview, at: int) -> None:
        """Keep what could not be decoded yet: by reference where it waits, for it may be long."""
        if self._ended:
            return
        if self.arriving is not None:
            self.arriving.take(memoryview(data)[at + HEADER_SIZE :])
        elif len(data) - at < HEADER_SIZE:
            self._header = bytes(data[at:])
        elif isinstance(data, bytes):
            self.waiting, self._at = data, at
        else:
            self.waiting, self._at = bytes(data[at:]), 0


def _take_none() -> None:
    """The permit of a message that needs none."""

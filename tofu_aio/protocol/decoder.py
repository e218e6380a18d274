"""Bytes in, messages out: incremental, bounded by the pool, strict about the wire."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Final, Protocol, TypeAlias

from .arriving import Arriving
from .binary_header import HEADER, HEADER_SIZE
from .errors import ERRORS, InvalidMessage, InvalidMessageId, TofuError
from .lifecycle import UNDECIDED, VERDICTS, State
from .message import Message
from .op_code import (
    MORE_BIT,
    OP_CODE_MASK,
    OP_CODES,
    ORIGIN_BIT,
    PUBLIC_BITS,
    MessageType,
    OpCode,
    Role,
)
from .pool import Account, Permit, Pool
from .status import LEFT, STATUSES, Status
from .text_headers import EMPTY_HEADERS, TextHeaders

_unpack: Final = HEADER.unpack_from
_new: Final = object.__new__
_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_PLAIN: Final = frozenset({_REQUEST, _SIGNAL})

WITHDRAWAL: Final = int(OpCode.REQUEST) | MORE_BIT
"""The proto of a request that takes another one back."""
_BOUNDLESS: Final = sys.maxsize
_PEER_BITS: Final = PUBLIC_BITS & ~ORIGIN_BIT
"""Origin is not a peer's to claim: it would pass for a notification of our own engine."""


Tables: TypeAlias = Mapping[State, tuple[State | Status | None, ...]]
"""The verdict on each proto byte in each state."""


class SoFar(Protocol):
    """A request in parts, as far as it has come."""

    @property
    def length(self) -> int:
        """In bytes."""


_NO_PARTS: Final[Mapping[int, SoFar | None]] = {}


class Exemptions:
    """Which regular messages take no permit, because somebody has made room for them.

    What is exempt now may not be in a moment: after the last part of a request its id is any other
    one. So no message is decoded after that until it was sorted.

    Attributes:
        awaited: ids of the requests whose responses take none: a ``request()`` waits for each.
        exchanges, posted: ids of other requests that were sent, whose responses take permits: in
            parts, or to be received with all other messages. A response that belongs to nothing
            here takes none, and is dropped.
        strays: responses that belong to nothing may come, because somebody has given up waiting.
        parts: the peer's requests in parts, by id: what has come so far of those that are joined,
            and None for those that are thrown away. Only the last part takes permits, for all.
        withdrawals: the peer takes requests back, see ``is_withdrawal``.
    """

    __slots__ = ("awaited", "exchanges", "parts", "posted", "strays", "withdrawals")

    def __init__(
        self,
        *,
        awaited: Collection[int] = (),
        exchanges: Collection[int] = (),
        posted: Collection[int] = (),
        parts: Mapping[int, SoFar | None] = _NO_PARTS,
        withdrawals: bool = False,
    ) -> None:
        self.awaited = awaited
        self.exchanges = exchanges
        self.posted = posted
        self.parts = parts
        self.strays = False
        self.withdrawals = withdrawals

    @property
    def tables(self) -> Tables:
        """Verdicts, with None for what ``pays`` must be asked about: little of what comes."""
        if self.parts:
            return _ASK_ALL
        if not self.posted or self.exchanges or self.awaited or self.strays:
            return _ASK_RESPONSES
        return _ASK_NO_RESPONSES

    def pays(self, proto: int, message_id: int, status: int, length: int) -> int:
        """For how many bytes a message of so many must take permits: none, its own, or more."""
        if proto & OP_CODE_MASK == _RESPONSE:
            counted = message_id in self.posted or message_id in self.exchanges
            return length if counted else 0
        if message_id in self.parts:
            so_far = self.parts[message_id]
            return 0 if proto & MORE_BIT or so_far is None else so_far.length + length
        taken_back = self.withdrawals and is_withdrawal(proto, status, length)
        return 0 if taken_back else length


def is_withdrawal(proto: int, status: int, length: int) -> bool:
    """Whether a request, of so many bytes, takes back the one that was sent under its id.

    It is sent only to peers that have said that they understand it.
    """
    return proto == WITHDRAWAL and status == LEFT and length == HEADER_SIZE


def _asking(*asked: int) -> Tables:
    """Verdicts, with None for what there is more to ask about than whether it may come.

    Args:
        asked: of these proto bytes: all of them are those of regular messages.
    """
    return {
        state: tuple(
            None if verdict is state and proto in asked else verdict
            for proto, verdict in enumerate(verdicts)
        )
        for state, verdicts in VERDICTS.items()
    }


_ASK_NO_RESPONSES: Final = _asking(WITHDRAWAL)
"""All responses are to requests that were posted, and take permits: asking would be slower."""
_ASK_RESPONSES: Final = _asking(WITHDRAWAL, _RESPONSE, _RESPONSE | MORE_BIT)
_ASK_ALL: Final = _asking(WITHDRAWAL, _RESPONSE, _RESPONSE | MORE_BIT, _REQUEST)


class Decoder:
    """The receiving half of one channel: any split of the bytes gives the same messages.

    A regular message takes its permits when its header is complete, or the channel's reserve.
    Without them the decoder is *starved*: it keeps what it has and waits for ``resume``. Hello and
    Bye need no permit, so that control is never held up; ``lifecycle`` lets each come once, which
    bounds them. What ``exempt`` covers needs none either: whoever asked for it has made room.

    It makes no more messages at a time than the ``portion`` it is told, of those that take one
    permit each, and as many of those that take none; long ones are not counted. While more of what
    was fed waits to be decoded it is ``pending``, and ``more`` goes on.

    The first frame that breaks a rule ends decoding: it and all after it never become messages,
    ``violation`` says why.

    What follows the peer's Hello waits, undecoded, until the owner has moved ``state`` on: it is
    ``early``. Then it is ``pending``.

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
        exempt: which regular messages take no permit; None where all take one.
        special: whether a message was made, since somebody last set this to False, that is to be
            sorted: a response, or a request with more to follow.
        needs: how many permits it waits for; 0 unless it is starved.
        awaited_id: the id that the answer to our Hello or Bye must carry; 0 accepts any.
        asked_id: the id that our answer to the peer's Hello or Bye must carry; 0 before one.
        heartbeats: None while none may come; False while the peer is not known to take part; True
            once it is, because it said so, or because one came.
        offset: how many bytes of the stream have become messages.
        waiting: what was fed and waits for a permit, for its portion, or for the answer to the
            peer's Hello, from ``_at`` on.
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
        "exempt",
        "heartbeats",
        "needs",
        "offset",
        "special",
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
        self.exempt: Exemptions | None = None
        self.special = False
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
    def needs_none(self) -> bool:
        """Whether what waits for permits needs none any more: it has been asked for meanwhile."""
        exempt = self.exempt
        if not self.needs or exempt is None:
            return False
        _, proto, status, message_id, headers_len, body_len = _unpack(self.waiting, self._at)
        proto &= _PEER_BITS
        asks = exempt.tables[self.state][proto] is None
        length = HEADER_SIZE + headers_len + body_len
        return asks and not exempt.pays(proto, message_id, status, length)

    @property
    def pending(self) -> bool:
        """Whether ``more`` would go on."""
        return not self.needs and bool(self.waiting) and self.state not in UNDECIDED

    @property
    def early(self) -> bool:
        """Whether something waits for the answer to the peer's Hello."""
        return bool(self.waiting) and self.state in UNDECIDED

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
            if self.needs or self.early:
                self.waiting += bytes(data[at:])
                return batch
        if self.arriving is not None:
            at += self.arriving.take(memoryview(data)[at:])
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
        """The next portion of what was fed, maybe a larger one; nothing unless it is pending."""
        return self._go_on(portion) if not self.needs else []

    def resume(self, portion: int = _BOUNDLESS, granted: int = 0) -> list[Message]:
        """Go on after starving, with so many permits for sure, or with the reserve.

        More are taken only while nobody else waits. Where nothing can be taken it starves again;
        unless it is starved nothing happens.
        """
        needs, self.needs = self.needs, 0
        return self._go_on(portion, granted) if needs else []

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

    def _go_on(self, portion: int, granted: int = 0) -> list[Message]:
        batch: list[Message] = []
        chunk, self.waiting = self.waiting, b""
        at, self._at = self._at, 0
        self._parse(chunk, at, batch, portion, granted)
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
        self,
        data: bytes | memoryview,
        at: int,
        batch: list[Message],
        portion: int,
        granted: int = 0,
    ) -> None:
        """Decode frames from ``at`` on, a portion of the whole ones; some permits are sure.

        The hot loop of the library: local names, one pass, no call but for what must be made.
        """
        if self._ended:
            return
        account, number, state = self.account, self._number, self.state
        bits = PUBLIC_BITS if number is None else _PEER_BITS
        budget, take, unit = _BOUNDLESS, _take_none, _BOUNDLESS
        if account is not None:
            pool, held = account.pool, len(account.taken) + len(account.bundled)
            if (len(pool.free) + held) * pool.share >= held + portion + 1 and not pool.waiters:
                budget = portion + 1  # or more, as account.budget() would say, without the call
            else:
                budget = account.budget()
            if budget < granted:  # noqa: PLR1730 - max takes longer, for each chunk
                budget = granted
            take, unit = pool.free.pop, pool.unit
        exempt = self.exempt
        if exempt is None:
            tables: Tables = VERDICTS
        elif exempt.posted or exempt.parts or exempt.exchanges:
            tables = exempt.tables
        else:
            tables = _ASK_RESPONSES  # without a call, as on most channels
        verdicts = tables[state]
        quota = left = budget if budget < portion else portion  # noqa: FURB136 - so does min
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
                        break  # that is a portion
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
                    except IndexError:  # another thread was faster: as if it had been before
                        budget = quota = quota - left
                        left = 0
                        continue
                    left -= 1
            elif verdict is None and message_id:
                assert exempt is not None
                verdict, self.special = state, True
                if gratis < 1:
                    break  # so is that
                gratis -= 1
                if proto == WITHDRAWAL and headers_len:
                    last = at  # maybe the first part of a request: once sorted, it is in ``parts``
                elif not proto & MORE_BIT and message_id in exempt.parts:
                    gratis = 0  # its id is any other one from here on, once this was sorted
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
            account.charge(quota - left)
        if broken is not None:
            broken.release()
        self.offset += at - start
        if at < end:
            self._keep(data, at)

    def _is_sorted_first(self, message: Message) -> bool:
        """Whether what follows it depends on it: a first part of a request, or the last one."""
        exempt, proto = self.exempt, message._proto
        if exempt is None:
            return False
        begins = proto == WITHDRAWAL and message.headers is not EMPTY_HEADERS
        return begins or (proto == _REQUEST and message.message_id in exempt.parts)

    def _take(self, length: int, budget: int, *, joined: bool = False) -> Permit | None:
        """The reserve, or the permits of a long message; or starve."""
        account = self.account
        assert account is not None
        price = account.pool.price(length)
        if joined:  # what its permits are not worth stays in another room
            price = min(price, account.pool.largest_share)
        permit = account.take(price, budget, apart=joined)
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
        if self.exempt is not None and message._proto not in _PLAIN:
            self.special = True
        batch.append(message)

    def _beats(self, verdict: State | Status | None, proto: int) -> bool:
        """Whether a bare header with the id 0 is a heartbeat, which has been heard then."""
        if self.heartbeats is None or proto != _SIGNAL or verdict is not self.state:
            return False
        self.heartbeats = True
        return True

    def _control(
        self, verdict: State | Status | None, proto: int, message_id: int, ahead: int
    ) -> bool:
        """Judge a header that is not plainly a regular message. Whether it may come."""
        if isinstance(verdict, Status):
            if self.state not in UNDECIDED:
                self._violate(ERRORS[verdict], _out_of_turn(verdict, proto, self.state), ahead)
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


def _out_of_turn(verdict: Status, proto: int, state: State) -> str:
    """What is wrong with an op code that may not come."""
    value = proto & OP_CODE_MASK
    if value >= len(OP_CODES):
        return f"op code {value} may not come in state {state.name.lower()}"
    what = OP_CODES[value].name
    if verdict is Status.INVALID_MORE_USAGE:
        what += " with more"
    elif state is State.HELLO_SENT:
        return (
            f"the peer sent a {what} before it answered the Hello; it must answer with "
            "HELLO_RESPONSE first"
        )
    return f"{what} may not come in state {state.name.lower()}"


def _take_none() -> None:
    """The permit of a message that needs none."""

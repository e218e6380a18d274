"""A channel as a stream of messages: what most programs use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final
from weakref import ref

from anyio import CancelScope
from anyio.abc import ObjectStream

from ..protocol.account import LENT, LENT_A_STREAM
from ..protocol.binary_header import MAX_PART, BinaryHeader
from ..protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    InvalidBodyLen,
    InvalidChannelNumber,
    InvalidMessageId,
    InvalidMoreUsage,
    InvalidOpCode,
    NotAllowed,
    PeerDisconnected,
    TofuError,
    again,
)
from ..protocol.exemptions import Exemptions
from ..protocol.lifecycle import BYE_SAID, RECEIVE, SEND, State
from ..protocol.message import REJECTION, Message, next_message_id
from ..protocol.op_code import ANSWERED_BIT, MORE_BIT, OP_CODE_MASK, PUBLIC_BITS, OpCode
from ..protocol.pool import Pool
from ..protocol.status import Status
from ..protocol.text_headers import EOF, WHOLE, HeadersLike, TextHeaders
from . import backlog
from .agreements import Extension, shared
from .answers import Answers
from .attributes import Attributes, channel_attributes
from .checks import checked_seconds
from .connection import Connection, when_sending
from .exchange import Exchange
from .holdings import Holdings, of_connection, of_messages
from .incoming import IncomingRequests
from .mailbox import Mailbox
from .parts import Body, length_of, send_in_parts
from .peer import Peer
from .receipts import inbox
from .statistics import ChannelStatistics
from .triggers import Triggers
from .waking import Answered

logger = logging.getLogger(__name__)

# What the hot paths use for each message: a global is found faster than an enum's member.
_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_LAST_REGULAR: Final = _SIGNAL
_SUCCESS: Final = Status.SUCCESS
_BYE_HEARD: Final = State.BYE_HEARD

_ANSWERED: Final = _REQUEST | ANSWERED_BIT

# What channels share that have asked nothing yet, and heard no request in parts.
_NOTHING_ASKED: Final = Exemptions()
_TAKES_BACK: Final = Exemptions(withdrawals=True)

_HALF_CLOSE: Final = TextHeaders({EOF: "1"}).encode()


class Channel(ObjectStream[Message]):
    """A conversation with one peer. Made by ``group.connect`` and ``listener.accept``.

    One that ``listener.receive_hello`` brings begins with a decision: ``accept`` or ``reject``.

    Messages arrive by iterating, or by ``receive``; responses to ``request`` go to their
    requests. The channel is not read while there is no room for what comes, neither on its reserve
    nor in its share of the engine's pool, and the peer feels it. So messages should be released, or
    dropped, soon.

    An anyio ``ObjectStream``: once the peer said Bye, receiving raises ``EndOfStream``; once it
    was lost, ``BrokenResourceError``; after closing on this side, ``ClosedResourceError``. All
    methods belong to the event loop's thread.
    """

    def __init__(
        self,
        connection: Connection,
        introduced: Callable[[Channel], None],
        forget: Callable[[int], None],
        welcome: bytes = b"",
    ) -> None:
        self._connection = connection
        connection.sink = self
        # Called when the Hello has come, when it is answered, at the end, and with the socket gone.
        self._introduced = introduced
        self._forget = forget  # called once, with the number, when the socket is gone
        self._welcome = welcome  # the listener's headers, encoded, of its answer to a Hello
        self._mailbox = Mailbox(inbox())
        # Once something was asked, or came that is no plain request or signal.
        self._answers: Answers | None = None
        self._incoming: IncomingRequests | None = None
        self._long_sends: asyncio.Lock | None = None  # once a body took several messages
        connection.decoder.exempt = _NOTHING_ASKED
        self._half_closed = False  # the peer said Bye with send_eof: it still listens
        self._hello: Message | None = None
        self._peer: Peer | None = None

    # --- what it is -----------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Its local number, 1 to 65534."""
        return self._connection.number

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return State.CLOSED if self._connection.end is not None else self._connection.decoder.state

    @property
    def end(self) -> TofuError | None:
        """Why nothing more comes from the peer; None while something may."""
        return self._connection.end

    @property
    def _closed_here(self) -> bool:
        return self._connection.closed_here

    @property
    def hello(self) -> Message:
        """How the peer introduced itself: its HELLO_REQUEST, or its answer to ours."""
        assert self._hello is not None
        return self._hello

    @property
    def peer(self) -> Peer:
        """Who is at the other end: address, and on a Unix socket the process, or by TLS the name.

        It is what was known when the peer's Hello, or its answer to ours, arrived.
        """
        assert self._peer is not None
        return self._peer

    @property
    def triggers(self) -> Triggers:
        """What it waits for at this moment; ERROR once its peer was lost, nothing once closed."""
        connection = self._connection
        if connection.end is not None:
            orderly = isinstance(connection.end, ChannelEnded | ChannelClosed)
            return Triggers(0) if orderly else Triggers.ERROR
        if connection.decoder.state is State.HELLO_HEARD:
            return Triggers.ACCEPT
        triggers = Triggers.POOL if connection.decoder.starved else Triggers.RECV
        return triggers | Triggers.SEND if connection.queued_bytes else triggers

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """The ``SocketAttribute``s of anyio but for ``raw_socket``: the addresses of both ends.

        They are gone when the socket is. See ``anyio.TypedAttributeProvider.extra``.
        """
        return channel_attributes(self._connection)

    def statistics(self) -> ChannelStatistics:
        """A snapshot of its counters."""
        connection = self._connection
        account = connection.decoder.account
        return ChannelStatistics(
            received=connection.received,
            sent=connection.sent,
            queued_bytes=connection.queued_bytes,
            held=account.worth_of_all if account is not None else 0,
            awaited=self._awaited(),
            suspended=connection.suspended_at is not None,
            suspended_for=connection.waited,
            suspensions=connection.suspensions,
            late_responses=self._dropped(),
            triggers=self.triggers,
        )

    def _awaited(self) -> int:
        """Requests under way."""
        return len(self._answers.requests) if self._answers is not None else 0

    def _dropped(self) -> int:
        """What came for nobody."""
        late = self._answers.late if self._answers is not None else 0
        return late + self._incoming.dropped if self._incoming is not None else late

    def _holdings(self, pool: Pool) -> Holdings:
        """What it has in hand for the application and for the peer."""
        return of_connection(self._connection, pool) + of_messages(self._mailbox.items, pool)

    def __repr__(self) -> str:
        return f"<Channel {self.number} {self.state.name.lower()}>"

    # --- deciding -------------------------------------------------------------------------

    def accept(self, body: bytes = b"", headers: HeadersLike | None = None) -> None:
        """Answer the peer's Hello: the channel is open. Never waits.

        Args:
            body: of the answer, which is the peer's ``channel.hello``.
            headers: of the answer.

        Raises:
            NotAllowed: it is decided already, or was not this side's to decide.
            PeerDisconnected, ProtocolViolation, ChannelClosed: the peer has gone, or this side.
            TofuError: as ``Message`` for what does not fit in one.
        """
        text = TextHeaders(headers).encode() if headers else b""
        self._check_undecided("accepted")
        self._connection.put(OpCode.HELLO_RESPONSE, headers=self._welcome + text, body=body)

    async def reject(self, reason: str, status: Status = Status.NOT_ALLOWED) -> None:
        """Tell the peer why it is not accepted, and close once it has hung up.

        There its ``connect`` raises ``ConnectFailed`` with the reason. The peer has a second to
        hang up, so that it can read that; then, or when cancelled, this side closes.

        Args:
            reason: for people; at most 65,535 bytes of UTF-8.
            status: for programs.

        Raises:
            ValueError: the status is SUCCESS.
            InvalidBodyLen: the reason is too long.
            NotAllowed, PeerDisconnected, ProtocolViolation, ChannelClosed: as ``accept``.
        """
        self._refuse(reason, status)
        await self._connection.refused()

    def _refuse(self, reason: str, status: Status) -> None:
        """Tell the peer why it is not accepted: nothing more travels then."""
        if status is Status.SUCCESS:
            raise ValueError("a rejection needs a status that says what is wrong, not SUCCESS")
        self._check_undecided("rejected")
        self._connection.put(REJECTION, body=reason.encode("utf-8", "replace"), status=status)

    def _check_undecided(self, verb: str) -> None:
        state = self.state
        if state not in {State.HELLO_HEARD, State.CLOSED}:
            raise NotAllowed(f"a channel in state {state.name.lower()} cannot be {verb}")

    # --- receiving ------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next message. Cancelled, it loses none.

        Raises:
            ChannelEnded: the peer said Bye, and everything before it was received.
            PeerDisconnected, ProtocolViolation: the peer was lost, or broke the protocol.
            ChannelClosed: this side closed.
            BusyResourceError: another task is receiving.
        """
        mailbox = self._mailbox
        while not mailbox.items:
            try:
                arrival = mailbox.arrival()
                if self._connection.suspended_at is not None:
                    self._connection.lend()
                await arrival
            except ChannelEnded:
                self._all_received()
                raise
        return mailbox.items.popleft()

    async def __anext__(self) -> Message:
        """The next message; the iteration ends at the peer's Bye."""
        # Not by way of receive(): where messages are waiting, a coroutine less is a fifth less.
        mailbox = self._mailbox
        while not mailbox.items:
            try:
                arrival = mailbox.arrival()
                if self._connection.suspended_at is not None:
                    self._connection.lend()
                await arrival
            except ChannelEnded:
                self._all_received()
                raise StopAsyncIteration from None
        return mailbox.items.popleft()

    def _all_received(self) -> None:
        """All before the peer's Bye was received."""
        if not self._half_closed:
            self._answer_bye()

    def _answer_bye(self) -> None:
        connection = self._connection
        if connection.end is None and OpCode.BYE_RESPONSE in SEND[connection.decoder.state]:
            connection.put(OpCode.BYE_RESPONSE)

    # --- sending --------------------------------------------------------------------------

    def post(self, message: Message) -> BinaryHeader:
        """Queue a message and return its header as sent. Never waits.

        What is queued is the message as it is now, with ``message_id`` 0 replaced by the next
        one; changing or releasing it later changes nothing. How much is queued is the caller's
        business: ``send`` waits for room.

        Raises:
            InvalidMessageId: a response without its request's id.
            NotAllowed: the op code may not be sent in this state.
            PeerDisconnected, ProtocolViolation, ChannelClosed: there is nobody to send to.
        """
        message_id = self._connection.post(message)
        if not message._proto & OP_CODE_MASK:  # a REQUEST: the mailbox gets the response
            (self._answers or self._asking()).posted.add(message_id)
        return message.header_as(self.number, message_id)

    def check(self, message: Message) -> int:
        """The id under which ``post`` would send the message now; raises as it. From any thread."""
        return self._connection.check(message)

    async def send(self, item: Message) -> None:
        """Wait for room, in turn, then send the message: whole, or, if cancelled, not at all.

        Where there is always room it gives other tasks a turn every 128 KiB of short messages, as
        ``signal`` and ``reply`` do.

        A request or response that is longer than one message, since it came to ``request`` or to
        the mailbox as a whole, is sent on in parts, as ``request`` and ``reply`` do.

        Raises:
            TofuError: as ``post``.
        """
        connection = self._connection
        if connection.write_paused or connection.senders or connection.turn_taken:
            await connection.room()
        try:
            message_id = connection.post(item, True)
        except InvalidBodyLen:
            if item._proto & PUBLIC_BITS not in {_REQUEST, _RESPONSE}:
                raise
            await self._send_on(item)
            return
        if not item._proto & OP_CODE_MASK:  # as ``post``
            (self._answers or self._asking()).posted.add(message_id)

    async def _send_on(self, item: Message) -> None:
        """Send a request or response in parts, which keeps its permit until that is done."""
        message_id, announce = item.message_id or next_message_id(), b""
        wanted: Callable[[], bool] = partial(self._is_awaited, message_id)
        posted = self._asking().posted if item.op_code is OpCode.REQUEST else None
        if posted is not None:
            announce = self._announcement(message_id, item.body)
            posted.add(message_id)
            wanted = partial(posted.__contains__, message_id)
        try:
            await self._send_later(
                item._proto & PUBLIC_BITS,
                message_id,
                item.headers.encode(),
                item.body,
                item.status,
                wanted=wanted,
                announce=announce,
            )
        except BaseException:
            if posted is not None:
                posted.discard(message_id)
            raise
        item.release()

    async def signal(
        self, body: bytes = b"", headers: HeadersLike | None = None, *, message_id: int = 0
    ) -> None:
        """Send a message that needs no answer: ``await channel.signal(body)``.

        Raises:
            TofuError, TypeError: as ``post``, and as ``Message`` for what does not fit in one.
        """
        connection = self._connection
        text = TextHeaders(headers).encode() if headers else b""
        if connection.write_paused or connection.senders or connection.turn_taken:
            await connection.room()
        connection.put(_SIGNAL, message_id, text, body, 0, True)

    async def reply(
        self,
        request: Message,
        body: Body = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = _SUCCESS,
        more: bool = False,
    ) -> None:
        """Answer a request, once: ``await channel.reply(request, body)``.

        A request that its caller has taken back needs no answer any more: then nothing is sent.

        Args:
            request: what is answered; its message id ties both together.
            body: of the response, of any length. One of more than 65,535 bytes goes in parts, one
                such body of a channel at a time, while short messages go on in between. A caller
                with ``request`` gets the whole, if it is not longer than its engine's ``max_body``.
            headers: of the response.
            status: SUCCESS, or why the request could not be fulfilled.
            more: this is a part of the answer, and more follow.

        Raises:
            InvalidMoreUsage: this is only a part of a request: answer with ``stream(request)``.
            InvalidOpCode: it is no request.
            NotAllowed: it was answered already.
            TofuError, TypeError: as ``post``, and as ``Message`` for what does not fit in one.
        """
        connection = self._connection
        try:
            proto = request._proto
        except AttributeError:
            raise TypeError(
                f"a request is replied to, not {type(request).__name__}: give the Message "
                "that was received"
            ) from None
        if proto:
            raise _not_to_be_answered(request)
        message_id = request.message_id
        text = TextHeaders(headers).encode() if headers else b""
        if self._incoming is not None and not self._is_wanted(request, more=more):
            return
        proto = _RESPONSE | MORE_BIT if more else _RESPONSE
        if not (connection.write_paused or connection.senders or connection.turn_taken):
            try:
                connection.put(proto, message_id, text, body, status, True)
            except InvalidBodyLen:
                pass  # it takes several messages
            else:
                if not more:
                    request._proto = _ANSWERED
                return
        claim = None if more else _Claim(request)
        del request  # who waits for room, or was cancelled there, does not keep it alive
        try:
            wanted = partial(self._is_awaited, message_id)
            await self._send_later(proto, message_id, text, body, status, wanted=wanted)
        except BaseException:
            if claim is not None:
                claim.withdraw()
            raise

    def _is_wanted(self, request: Message, *, more: bool) -> bool:
        """Whether anybody waits for the answer."""
        incoming = self._heard()
        if more:
            return self._is_awaited(request.message_id)
        if incoming.answered(request.message_id):
            return True
        request._proto = _ANSWERED
        return False

    def _is_awaited(self, message_id: int) -> bool:
        """Whether the caller still waits, as far as is known, while the answer is being sent."""
        return self._incoming is None or not self._incoming.is_taken_back(message_id)

    async def _send_later(
        self,
        proto: int,
        message_id: int,
        text: bytes,
        body: Body,
        status: Status = _SUCCESS,
        *,
        wanted: Callable[[], bool],
        announce: bytes = b"",
    ) -> None:
        """Send what has to wait: for room, or, if it takes several messages, for its turn.

        Of what is not ``wanted`` any more by then, nothing more is sent.
        """
        connection = self._connection
        if length_of(body) <= MAX_PART:
            await connection.room()
            if wanted():
                connection.put(proto, message_id, text, body, status, True)
            return
        if self._long_sends is None:
            self._long_sends = asyncio.Lock()
        # One after another: all at once, they would all be half there for as long.
        async with self._long_sends:
            await send_in_parts(
                connection,
                proto,
                message_id,
                text,
                body,
                status=status,
                wanted=wanted,
                announce=announce,
            )

    async def request(
        self,
        body: Body = b"",
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
        message_id: int = 0,
    ) -> Message:
        """Send a request and return its response, whatever its ``status`` says.

        Any number of tasks may have requests under way: their responses take no permit of the
        pool. A cancelled or timed-out request leaves no trace: its response, should it still come,
        is dropped and counted, and a peer that wants to know is told that nobody waits any more.

        Args:
            body: of the request, of any length. One of more than 65,535 bytes goes in parts, one
                such body of a channel at a time; a peer that runs this library gets the whole, if
                it is not longer than its engine's ``max_body``, and else answers with the status
                INVALID_BODY_LEN. Any other peer gets parts.
            headers: of the request.
            timeout: seconds, for sending and answering together; None waits without end.
            message_id: of the parts sent before, when this request is the last one of them.

        Returns:
            The response; its ``body`` may be longer than that of one message.

        Raises:
            TypeError, ValueError: ``timeout`` is no number of seconds, 0 or more.
            TimeoutError: no response came in time.
            InvalidBodyLen: the response is longer than the engine's ``max_body``: ask with
                ``stream`` then.
            AllocationFailed: the response is long, and the engine joins as many bytes of long
                bodies already as it may (``joining_bytes``).
            PeerDisconnected, ProtocolViolation, ChannelClosed: none will come.
        """
        if timeout is not None:
            return await self._request_within(timeout, body, headers, message_id)
        answers = self._answers or self._asking()
        if not message_id:
            message_id = next_message_id()
        elif message_id in answers.exchanges:
            raise InvalidMessageId(f"message id {message_id} belongs to an exchange: finish that")
        text = TextHeaders(headers).encode() if headers else b""
        connection = self._connection
        if connection.write_paused or connection.senders:
            await connection.room()
        # Nothing is awaited from here to the future's: no answer can come in between.
        if message_id in answers.requests:
            raise InvalidMessageId(f"request {message_id} is under way already")
        if connection.decoder.state is _BYE_HEARD:
            raise _unanswerable()
        response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        try:
            connection.put(_REQUEST, message_id, text, body, 0, True)
        except InvalidBodyLen:
            await self._request_in_parts(message_id, text, body, response)
        else:
            answers.requests[message_id] = response
        if message_id in answers.posted:  # of the parts before this one: their answer is its own
            answers.posted.remove(message_id)
        if connection.suspended_at is not None:
            connection.reconsider()  # what waits may be the response
            self.suspended()
        try:
            return await response
        except asyncio.CancelledError:
            answers.give_up(message_id, response)
            raise

    async def _request_in_parts(
        self, message_id: int, text: bytes, body: Body, response: asyncio.Future[Message]
    ) -> None:
        """Send a long request; the response may come before its end, if it is refused."""
        requests, posted = self._asking().requests, self._asking().posted
        announce = self._announcement(message_id, body)
        posted.discard(message_id)
        requests[message_id] = response
        try:
            await self._send_later(
                _REQUEST,
                message_id,
                text,
                body,
                wanted=lambda: not response.done(),
                announce=announce,
            )
        except BaseException:
            self._asking().abandon(message_id)
            if response.done() and not response.cancelled():
                response.exception()  # it says the same as what is raised, or nobody wants it
            raise

    def _announcement(self, message_id: int, body: Body) -> bytes:
        """The header that has the peer join a long request, unless it has parts of it already."""
        if message_id in self._asking().posted:
            return b""
        if not self._connection.peer_supports & Extension.WHOLE:
            return b""
        return TextHeaders({WHOLE: str(length_of(body))}).encode()

    async def _request_within(
        self, timeout: float, body: Body, headers: HeadersLike | None, message_id: int
    ) -> Message:
        checked_seconds("timeout", timeout)
        message_id = message_id or next_message_id()
        try:
            async with asyncio.timeout(timeout):
                return await self.request(body, headers, message_id=message_id)
        except TimeoutError:
            raise TimeoutError(
                f"no response to request {message_id} within {timeout:g} s{self._backlog()}"
            ) from None

    # --- what was asked, and heard --------------------------------------------------------

    def _asking(self) -> Answers:
        if self._answers is None:
            self._answers = Answers(self._connection)
            exempt = self._exemptions()
            exempt.awaited = self._answers.requests
            exempt.exchanges, exempt.posted = self._answers.exchanges, self._answers.posted
        return self._answers

    def _heard(self) -> IncomingRequests:
        if self._incoming is None:
            self._incoming = IncomingRequests(self._connection, self._mailbox)
            self._exemptions().parts = self._incoming.parts
        return self._incoming

    def _exemptions(self) -> Exemptions:
        """Those of this channel: until it has asked or heard something, all share theirs."""
        decoder = self._connection.decoder
        shared = decoder.exempt
        if shared is _NOTHING_ASKED or shared is _TAKES_BACK:
            decoder.exempt = Exemptions(withdrawals=shared.withdrawals)
        assert decoder.exempt is not None
        return decoder.exempt

    # --- requests that were taken back ----------------------------------------------------

    def cancelled(self, request: Message) -> bool:
        """Whether the caller of a request that was received here has given up.

        It was cancelled there, timed out, or has left its exchange; or the peer is gone. A peer
        tells this only if it runs this library. Each channel knows the last 1,024 requests that
        were taken back and not answered.
        """
        return not self._is_awaited(request.message_id) or self._deaf()

    def _deaf(self) -> bool:
        """Whether the peer takes no answer any more."""
        connection = self._connection
        if connection.end is not None:
            return True
        # Channels that are streams drop what comes after their Bye; others may wait for it.
        leaves = connection.decoder.state is _BYE_HEARD and not self._half_closed
        return leaves and Extension.CANCEL in connection.peer_supports

    def cancel_scope(self, request: Message) -> AbstractContextManager[CancelScope]:
        """A block that is cancelled when the caller of a request gives up, or the peer is lost.

        ``with channel.cancel_scope(request): await channel.reply(request, await work())``

        It is an anyio ``CancelScope``: what waits in the block raises ``CancelledError`` there, and
        the block ends; ``scope.cancelled_caught`` tells whether that happened.

        Args:
            request: one that was received here.
        """
        cancelled = self.cancelled(request)
        return self._heard().cancel_scope(request.message_id, cancelled=cancelled)

    def stream(
        self, request: Message | None = None, *, headers: HeadersLike | None = None
    ) -> Exchange:
        """One request and its answer, each in any number of parts, for an ``async with``.

        Without ``request`` it is a new one, of this side: ``send`` and ``finish`` make the
        request, receiving gives the parts of the answer. Or one that was received here, maybe
        only its first part: receiving gives that and its other parts, ``send`` and ``finish``
        make the answer. Parts of an exchange go to it, and to nobody else. Each side may have begun
        1,024 that are not over: another one waits in its first ``send``. A peer that does not wait
        has its requests refused beyond 4,096.

        Args:
            request: the part that was received first. The others are sorted out from this call
                on, so it should come before this channel's next message is received.
            headers: of the first part that is sent from here.

        Raises:
            InvalidOpCode: ``request`` is no REQUEST.
            InvalidChannelNumber: ``request`` was not received on this channel.
            InvalidMessageId: the exchange of ``request`` is under way already.
            NotAllowed: ``request`` was answered already.
            InvalidMessage, InvalidHeadersLen: as ``Message`` for headers that do not fit in one.
            NotAllowed: the peer's Hello was not accepted yet.
        """
        if self.state is State.HELLO_HEARD:
            raise NotAllowed(f"channel {self.number} is not open yet: accept it first")
        op_code = OpCode.REQUEST if request is None else OpCode.RESPONSE
        message_id = next_message_id() if request is None else self._asked(request)
        exchange = Exchange(
            self._connection,
            op_code,
            message_id,
            headers,
            self._forget_exchange,
            slots=self._asking().slots if request is None else None,
        )
        parts = [] if request is None else [request, *self._parts_of(request)]
        for part in parts:
            exchange.received(part)
        end = self._mailbox.end
        if end is not None:
            exchange.lose(when_sending(end))
        elif request is not None:
            self._heard().begin(exchange, in_parts=request.more)
        elif OpCode.REQUEST not in RECEIVE[self._connection.decoder.state]:
            exchange.lose(_unanswerable())
        else:
            self._asking().begin(exchange)
        return exchange

    def _forget_exchange(self, exchange: Exchange) -> None:
        if exchange.asks:
            self._asking().forget(exchange)
        else:
            self._heard().forget(exchange)

    def _asked(self, request: Message) -> int:
        if request.op_code is not OpCode.REQUEST:
            raise InvalidOpCode(f"a REQUEST can be answered in parts, not {request.op_code.name}")
        if request.channel_number != self.number:
            raise InvalidChannelNumber(
                f"the request came on channel {request.channel_number}, not on {self.number}"
            )
        earlier = self._heard().exchanges.get(request.message_id)
        if earlier is not None and earlier.receives:
            raise InvalidMessageId(f"the exchange of request {request.message_id} is under way")
        if request._proto & ANSWERED_BIT:
            raise _not_to_be_answered(request)
        request._proto |= ANSWERED_BIT  # what it is answered with is the exchange's business
        return request.message_id

    def _parts_of(self, first: Message) -> list[Message]:
        """Take what follows this part out of the mailbox, as far as it is here."""
        if not first.more:
            return []
        return self._mailbox.remove(
            lambda message: (
                message.message_id == first.message_id and message._proto & OP_CODE_MASK == _REQUEST
            )
        )

    # --- closing --------------------------------------------------------------------------

    async def send_eof(self) -> None:
        """Say that nothing more is sent, and go on receiving until the peer closes too.

        On the wire it is a Bye with the header ``~eof``, which asks the peer to finish first. A
        peer that does not know it, the Zig library say, hands it to its application as any Bye.

        Once Bye was said, doing it again does nothing.

        Raises:
            PeerDisconnected, ProtocolViolation: there is nobody to say it to.
            ChannelClosed: the channel was closed on this side.
        """
        connection = self._connection
        closed = self._mailbox.end
        if isinstance(closed, ChannelClosed):
            raise again(closed)
        if self.state in BYE_SAID or isinstance(connection.end, ChannelEnded):
            return
        if self.state is State.BYE_HEARD:
            connection.put(OpCode.BYE_RESPONSE)  # the peer has sent all as well
        else:
            connection.put(OpCode.BYE_REQUEST, headers=_HALF_CLOSE)

    async def aclose(self, timeout: float | None = None) -> None:
        """Say Bye, wait for the answer, and close: the peer has everything that was sent before.

        If the peer has said Bye, answer it, and wait until the peer has hung up, a second at most.
        What the peer still sends is dropped. Safe from any task, and to repeat.

        Args:
            timeout: seconds that it may take; unless given it goes on until the peer has taken
                nothing for 5 seconds. Then it closes: in order if all that was sent has left for
                the kernel, which goes on delivering it, else it aborts and a warning says how many
                bytes were not sent. Cancelled, it aborts.

        Raises:
            TypeError, ValueError: ``timeout`` is no number of seconds, 0 or more.
        """
        if timeout is not None:
            checked_seconds("timeout", timeout)
        self._let_go(_closed_here())
        await self._connection.aclose(timeout)

    def _leave(self) -> None:
        """Close as ``aclose`` does, with nobody waiting for it."""
        self._let_go(_closed_here())
        self._connection.leave()

    async def _part(self) -> None:
        """Close as ``aclose`` does, but do not wait for a peer that is only to hang up."""
        self._let_go(_closed_here())
        await self._connection.part()

    def abort(self) -> None:
        """Reset the connection, at once: nothing queued is sent, nothing more is received."""
        error = ChannelClosed("the channel was aborted on this side")
        self._let_go(error)
        self._connection.abort(error)

    def _let_go(self, error: TofuError) -> None:
        for message in self._mailbox.close(error):
            message.release()
        if self._answers is not None:
            self._answers.close(error)
        if self._incoming is not None:
            self._incoming.close(error)

    def _fail(self, error: TofuError) -> None:
        """No answer will come any more, and no part."""
        if self._answers is not None:
            self._answers.fail(error)
        if self._incoming is not None:
            self._incoming.fail(error, deaf=self._deaf())

    # --- what the connection tells --------------------------------------------------------

    def received(self, batch: list[Message], answered: Answered) -> None:
        """Sort what arrived: answers to those who asked, the rest to the mailbox."""
        if self._hello is None:
            self._hello = batch.pop(0)
            self._peer = self._connection.peer()
            self._hello.headers = headers = shared(self._hello.headers)
            answer = self._hello.op_code is OpCode.HELLO_RESPONSE
            self._connection.hello_passed(headers.encode(), answer=answer, by_peer=True)
            if self._connection.peer_supports & Extension.CANCEL:
                self._connection.decoder.exempt = _TAKES_BACK
            self._introduced(self)
        decoder, answers, incoming = self._connection.decoder, self._answers, self._incoming
        special, decoder.special = decoder.special, False
        if special or (answers is not None and answers.busy):
            self._asking().sort(batch, answered)
        if batch and (special or (incoming is not None and incoming.busy)):
            self._heard().sort(batch)
        if not batch:
            return
        if batch[-1]._proto & OP_CODE_MASK <= _LAST_REGULAR:
            self._mailbox.put(batch, answered)
            batch.clear()  # who drops a message that it has received has dropped it
            return
        byes = []
        while batch and batch[-1]._proto & OP_CODE_MASK > _LAST_REGULAR:
            byes.append(batch.pop())
        if batch:
            self._mailbox.put(batch, answered)
            batch.clear()
        while byes:
            self._bye_heard(byes.pop())

    def _bye_heard(self, bye: Message) -> None:
        """Nothing but a Bye can follow a Bye, and no response."""
        self._half_closed |= EOF in bye.headers
        self._fail(_unanswerable())
        if self._mailbox.end is None:
            self._mailbox.finish(ChannelEnded("the peer said Bye"))
        if self._connection.decoder.state is not State.BYE_HEARD:
            # Ours was before it: nothing more is said that an answer should wait for.
            self._answer_bye()
        elif not self._mailbox.items and not self._half_closed:
            # All before it has been received, maybe by a program that does not receive at all but
            # only makes requests: the peer need not wait for that to look.
            self._answer_bye()

    @property
    def waits(self) -> int:
        """How many messages may be kept while somebody waits for one, or for a part."""
        exchanges = self._exchanges()
        if not self._mailbox.waits and not any(exchange.waits for exchange in exchanges):
            return 0
        return LENT + LENT_A_STREAM * len(exchanges)

    def suspended(self) -> None:
        """Warn, once, if responses cannot come because nobody receives what is before them.

        While the application keeps a message it works on that, for all we know, and will receive
        the next one.
        """
        answers = self._answers
        if answers is not None and answers.requests and not answers.warned and not self._kept():
            reason = self._backlog()
            if reason:
                answers.warned = True
                logger.warning(
                    "%d under way on channel %d: no response to a request%s",
                    len(answers.requests),
                    self.number,
                    reason,
                )

    def _backlog(self) -> str:
        """What responses wait behind, for people: messages that are not received, or kept."""
        if self._connection.suspended_at is None:
            return ""
        unread = len(self._mailbox.items)
        exchanges = [exchange for exchange in self._exchanges() if exchange.unread]
        kept = self._kept()
        # A few that are being worked on, while many wait, are not what holds it up.
        if kept <= unread + sum(len(exchange.unread) for exchange in exchanges):
            kept = 0
        return backlog.in_words(unread, exchanges, kept)

    def _kept(self) -> int:
        """Permits, and the reserve, of what the application has received and not let go of."""
        account = self._connection.decoder.account
        if account is None:
            return 0
        parts = (part for exchange in self._exchanges() for part in exchange.unread)
        own = of_messages((*self._mailbox.items, *parts), account.pool)
        own += of_connection(self._connection, account.pool)
        return account.worth_of_all - own.inbox - own.outgoing

    def _exchanges(self) -> list[Exchange]:
        """Those under way, whoever has asked."""
        asked = self._answers.exchanges.values() if self._answers is not None else ()
        heard = self._incoming.exchanges.values() if self._incoming is not None else ()
        return [*asked, *heard]

    def accepted(self) -> None:
        """The peer's Hello was answered: it is open."""
        self._introduced(self)

    def ended(self, error: TofuError) -> None:
        """The peer will send no more."""
        if self._mailbox.end is None:
            self._mailbox.finish(error)
        self._fail(when_sending(error))
        self._introduced(self)

    def lost(self) -> None:
        """Nobody hears anything from here any more."""
        if self._incoming is not None:
            self._incoming.unheard()

    def said(self) -> None:
        """Our last word has left."""
        self._introduced(self)

    def closed(self) -> None:
        """The socket is gone."""
        self._introduced(self)
        self._forget(self.number)


class _Claim:
    """Says that a request is answered while the answer waits to be sent, and does not keep it.

    Args:
        request: what is answered.
    """

    def __init__(self, request: Message) -> None:
        self._request = ref(request)
        request._proto = _ANSWERED

    def withdraw(self) -> None:
        """It was not answered after all."""
        request = self._request()
        if request is not None:
            request._proto = _REQUEST


def _not_to_be_answered(request: Message) -> TofuError:
    """Why this message cannot be replied to."""
    if request._proto & ANSWERED_BIT:
        return NotAllowed(f"request {request.message_id} was answered already: it has one response")
    if request.op_code is not OpCode.REQUEST:
        return InvalidOpCode(f"a REQUEST is replied to, not {request.op_code.name}")
    return InvalidMoreUsage(
        f"this is a part of request {request.message_id}, and more follow: answer all of it, with "
        "'async with channel.stream(request) as exchange'"
    )


def _closed_here() -> TofuError:
    return ChannelClosed("the channel was closed on this side")


def _unanswerable() -> TofuError:
    return PeerDisconnected("the peer said Bye: no response can come any more")

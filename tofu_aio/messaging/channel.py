"""A channel as a stream of messages: what most programs use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from anyio.abc import ObjectStream

from ..protocol.binary_header import BinaryHeader
from ..protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    InvalidChannelNumber,
    InvalidMessageId,
    InvalidOpCode,
    NotAllowed,
    PeerDisconnected,
    TofuError,
    again,
)
from ..protocol.lifecycle import BYE_SAID, RECEIVE, SEND, State
from ..protocol.message import Message, next_message_id
from ..protocol.op_code import MORE_BIT, OP_CODE_MASK, OpCode
from ..protocol.pool import Pool
from ..protocol.status import Status
from ..protocol.text_headers import EOF, HeadersLike, TextHeaders
from .agreements import shared
from .answers import Answers
from .attributes import Attributes, channel_attributes
from .checks import checked_seconds
from .connection import Connection, when_sending
from .exchange import Exchange
from .holdings import Holdings, of_connection, of_messages
from .mailbox import Mailbox
from .peer import Peer
from .receipts import inbox
from .statistics import ChannelStatistics
from .triggers import Triggers
from .waking import Answered

# What the hot paths use for each message: a global is found faster than an enum's member.
_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_LAST_REGULAR: Final = _SIGNAL
_SUCCESS: Final = Status.SUCCESS
_BYE_HEARD: Final = State.BYE_HEARD

_HALF_CLOSE: Final = TextHeaders({EOF: "1"}).encode()


class Channel(ObjectStream[Message]):
    """A conversation with one peer. Made by ``group.connect`` and ``listener.accept``.

    One that ``listener.receive_hello`` brings begins with a decision: ``accept`` or ``reject``.

    Messages arrive by iterating, or by ``receive``; responses to ``request`` go to their
    requests. Reading from the peer stops while the engine's pool is exhausted, and the peer
    feels it, so messages should be released, or dropped, soon.

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
        # Called when the Hello has come, or never will, when it is answered, and at the very end.
        self._introduced = introduced
        self._forget = forget  # called once, with the number, when the socket is gone
        self._welcome = welcome  # the listener's headers, encoded, of its answer to a Hello
        self._mailbox = Mailbox(inbox())
        self._answers: Answers | None = None  # once something was asked
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
            held=account.settle() if account is not None else 0,
            suspended=connection.suspended_at is not None,
            suspended_for=connection.waited,
            suspensions=connection.suspensions,
            late_responses=self._answers.late if self._answers is not None else 0,
            triggers=self.triggers,
        )

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
        """Tell the peer why it is not accepted, and close once it has read that.

        There its ``connect`` raises ``ConnectFailed`` with the reason. Takes 5 seconds at most;
        then, or when cancelled, it aborts.

        Args:
            reason: for people; at most 65,535 bytes of UTF-8.
            status: for programs.

        Raises:
            ValueError: the status is SUCCESS.
            InvalidBodyLen: the reason is too long.
            NotAllowed, PeerDisconnected, ProtocolViolation, ChannelClosed: as ``accept``.
        """
        if status is Status.SUCCESS:
            raise ValueError("a rejection needs a status that says what is wrong, not SUCCESS")
        self._check_undecided("rejected")
        await self._connection.refuse(status, reason.encode("utf-8", "replace"))

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
                await mailbox.arrival()
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
                await mailbox.arrival()
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
        return message.header_as(self.number, message_id)

    def check(self, message: Message) -> int:
        """The id under which ``post`` would send the message now; raises as it. From any thread."""
        return self._connection.check(message)

    async def send(self, item: Message) -> None:
        """Wait for room, in turn, then send the message: whole, or, if cancelled, not at all.

        Raises:
            As ``post``.
        """
        connection = self._connection
        if connection.write_paused or connection.senders:
            await connection.room()
        connection.post(item)

    async def signal(
        self, body: bytes = b"", headers: HeadersLike | None = None, *, message_id: int = 0
    ) -> None:
        """Send a message that needs no answer: ``await channel.signal(body)``.

        Raises:
            As ``post``, and as ``Message`` for what does not fit in one.
        """
        connection = self._connection
        text = TextHeaders(headers).encode() if headers else b""
        if connection.write_paused or connection.senders:
            await connection.room()
        connection.put(_SIGNAL, message_id, text, body)

    async def reply(
        self,
        request: Message,
        body: bytes = b"",
        headers: HeadersLike | None = None,
        *,
        status: Status = _SUCCESS,
        more: bool = False,
    ) -> None:
        """Answer a request: ``await channel.reply(request, body)``.

        Args:
            request: what is answered; its message id ties both together.
            body: of the response.
            headers: of the response.
            status: SUCCESS, or why the request could not be fulfilled.
            more: this is a part of the answer, and more follow.

        Raises:
            As ``post``, and as ``Message`` for what does not fit in one.
        """
        connection = self._connection
        try:
            message_id = request.message_id
        except AttributeError:
            raise TypeError(
                f"a request is replied to, not {type(request).__name__}: give the Message "
                "that was received"
            ) from None
        del request  # who waits for room, or was cancelled there, does not keep it alive
        text = TextHeaders(headers).encode() if headers else b""
        if connection.write_paused or connection.senders:
            await connection.room()
        proto = _RESPONSE | MORE_BIT if more else _RESPONSE
        connection.put(proto, message_id, text, body, status)

    async def request(
        self,
        body: bytes = b"",
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
        message_id: int = 0,
    ) -> Message:
        """Send a request and return its response, whatever its ``status`` says.

        Any number of tasks may have requests under way. A cancelled or timed-out one leaves no
        trace: its response, should it still come, is dropped and counted.

        Args:
            body: of the request.
            headers: of the request.
            timeout: seconds, for sending and answering together; None waits without end.
            message_id: of the parts sent before, when this request is the last one of them.

        Raises:
            TypeError, ValueError: ``timeout`` is no number of seconds, 0 or more.
            TimeoutError: no response came in time.
            InvalidMoreUsage: the response comes in parts: ask with ``stream`` then.
            PeerDisconnected, ProtocolViolation, ChannelClosed: none will come.
        """
        if timeout is not None:
            return await self._request_within(timeout, body, headers, message_id)
        answers = self._answers or self._asking()
        if not message_id:
            message_id = next_message_id()
        elif answers.exchanging(message_id):
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
        connection.put(_REQUEST, message_id, text, body)
        response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        answers.requests[message_id] = response
        try:
            return await response
        except asyncio.CancelledError:
            answers.give_up(message_id, response)
            raise

    def _asking(self) -> Answers:
        if self._answers is None:
            self._answers = Answers()
        return self._answers

    async def _request_within(
        self, timeout: float, body: bytes, headers: HeadersLike | None, message_id: int
    ) -> Message:
        checked_seconds("timeout", timeout)
        message_id = message_id or next_message_id()
        try:
            async with asyncio.timeout(timeout):
                return await self.request(body, headers, message_id=message_id)
        except TimeoutError:
            raise TimeoutError(
                f"no response to request {message_id} within {timeout:g} s"
            ) from None

    def stream(
        self, request: Message | None = None, *, headers: HeadersLike | None = None
    ) -> Exchange:
        """One request and its answer, each in any number of parts, for an ``async with``.

        Without ``request`` it is a new one, of this side: ``send`` and ``finish`` make the
        request, receiving gives the parts of the answer. Or one that was received here, maybe
        only its first part: receiving gives that and its other parts, ``send`` and ``finish``
        make the answer. Parts of an exchange go to it, and to nobody else.

        Args:
            request: the part that was received first. The others are sorted out from this call
                on, so it should come before this channel's next message is received.
            headers: of the first part that is sent from here.

        Raises:
            InvalidOpCode: ``request`` is no REQUEST.
            InvalidChannelNumber: ``request`` was not received on this channel.
            InvalidMessageId: the exchange of ``request`` is under way already.
            InvalidMessage, InvalidHeadersLen: as ``Message`` for headers that do not fit in one.
            NotAllowed: the peer's Hello was not accepted yet.
        """
        if self.state is State.HELLO_HEARD:
            raise NotAllowed(f"channel {self.number} is not open yet: accept it first")
        op_code = OpCode.REQUEST if request is None else OpCode.RESPONSE
        message_id = next_message_id() if request is None else self._asked(request)
        answers = self._asking()
        exchange = Exchange(self._connection, op_code, message_id, headers, answers.forget)
        parts = [] if request is None else [request, *self._parts_of(request)]
        for part in parts:
            exchange.received(part)
        if parts and not parts[-1].more:
            return exchange
        end = self._mailbox.end
        if end is not None:
            exchange.lose(when_sending(end))
        elif OpCode.REQUEST not in RECEIVE[self._connection.decoder.state]:
            exchange.lose(_unanswerable())
        else:
            answers.begin(exchange)
        return exchange

    def _asked(self, request: Message) -> int:
        if request.op_code is not OpCode.REQUEST:
            raise InvalidOpCode(f"a REQUEST can be answered in parts, not {request.op_code.name}")
        if request.channel_number != self.number:
            raise InvalidChannelNumber(
                f"the request came on channel {request.channel_number}, not on {self.number}"
            )
        if self._asking().exchanging(-request.message_id):
            raise InvalidMessageId(f"the exchange of request {request.message_id} is under way")
        return request.message_id

    def _parts_of(self, first: Message) -> list[Message]:
        """Take what follows this part out of the mailbox, as far as it is here."""
        if not first.more:
            return []
        parts: list[Message] = []
        rest: list[Message] = []
        for message in self._mailbox.items:
            same = message.message_id == first.message_id and message.op_code is OpCode.REQUEST
            (parts if same else rest).append(message)
        self._mailbox.items.clear()
        self._mailbox.items.extend(rest)
        return parts

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

        What the peer still sends is dropped. Safe from any task, and to repeat.

        Args:
            timeout: seconds that it may take, 5 unless given; then, or when cancelled, it aborts.

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

    def _fail(self, error: TofuError) -> None:
        """No answer will come any more."""
        if self._answers is not None:
            self._answers.fail(error)

    # --- what the connection tells --------------------------------------------------------

    def received(self, batch: list[Message], answered: Answered) -> None:
        """Sort what arrived: answers to those who asked, the rest to the mailbox."""
        if self._hello is None:
            self._hello = batch.pop(0)
            self._peer = self._connection.peer()
            self._hello.headers = headers = shared(self._hello.headers)
            answer = self._hello.op_code is OpCode.HELLO_RESPONSE
            self._connection.hello_passed(headers.encode(), answer=answer, by_peer=True)
            self._introduced(self)
        elif self._answers is not None and self._answers.wanted:
            self._answers.sort(batch, answered)
        byes = []
        while batch and batch[-1]._proto & OP_CODE_MASK > _LAST_REGULAR:
            byes.append(batch.pop())
        if batch:
            self._mailbox.put(batch, answered)
            batch.clear()  # who drops a message that it has received has dropped it
        while byes:
            self._bye_heard(byes.pop())

    def _bye_heard(self, bye: Message) -> None:
        """Nothing but a Bye can follow a Bye, and no response."""
        self._fail(_unanswerable())
        self._half_closed |= EOF in bye.headers
        if self._mailbox.end is None:
            self._mailbox.finish(ChannelEnded("the peer said Bye"))
        if self._connection.decoder.state is not State.BYE_HEARD:
            # Ours was before it: nothing more is said that an answer should wait for.
            self._answer_bye()
        elif not self._mailbox.items and not self._half_closed:
            # All before it has been received, maybe by a program that does not receive at all but
            # only makes requests: the peer need not wait for that to look.
            self._answer_bye()

    def accepted(self) -> None:
        """The peer's Hello was answered: it is open."""
        self._introduced(self)

    def ended(self, error: TofuError) -> None:
        """The peer will send no more."""
        if self._mailbox.end is None:
            self._mailbox.finish(error)
        self._fail(when_sending(error))
        if self._hello is None:
            self._introduced(self)

    def closed(self) -> None:
        """The socket is gone."""
        self._introduced(self)
        self._forget(self.number)


def _closed_here() -> TofuError:
    return ChannelClosed("the channel was closed on this side")


def _unanswerable() -> TofuError:
    return PeerDisconnected("the peer said Bye: no response can come any more")

"""A channel as a stream of messages: what most programs use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from anyio import WouldBlock
from anyio.abc import ObjectStream

from ..checks import checked_seconds
from ..core import fast
from ..protocol.binary_header import BinaryHeader
from ..protocol.errors import (
    ChannelEnded,
    InvalidBodyLen,
    InvalidMessageId,
)
from ..protocol.lifecycle import State
from ..protocol.message import Message, next_message_id
from ..protocol.op_code import MORE_BIT, OP_CODE_MASK, PUBLIC_BITS, OpCode
from ..protocol.status import Status
from ..protocol.text_headers import HeadersLike, encoded
from ..transport.socket_attributes import Attributes, both_ends
from .cancellations import Cancellations
from .connection.connection import Connection
from .delivery.deferred_sends import DeferredSends
from .delivery.dispatcher import Dispatcher, unanswerable
from .delivery.exchange_opening import open_exchange
from .delivery.incoming_requests import IncomingRequests
from .delivery.parts import Body
from .delivery.replies import ANSWERED, Claim, not_to_be_answered
from .exchange import Exchange

# For the hot paths: looking up a global is faster than an enum's member.
_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_LAST_REGULAR: Final = _SIGNAL
_SUCCESS: Final = Status.SUCCESS
_BYE_HEARD: Final = State.BYE_HEARD


class Channel(Cancellations, ObjectStream[Message]):
    """A conversation with one peer. Made by ``group.connect`` and ``listener.accept``.

    A channel from ``listener.receive_hello`` needs a decision first: ``accept`` or ``reject``.

    Iterate over the channel, or call ``receive``, to get its messages. The response to a
    ``request`` goes to that call. While neither the channel's reserve nor its share of the
    engine's pool has room for another message, the channel is not read, which slows its peer down.
    So release messages, or drop them, soon.

    An anyio ``ObjectStream``: receiving raises ``EndOfStream`` after the peer's Bye,
    ``BrokenResourceError`` once the peer was lost, and ``ClosedResourceError`` after closing on
    this side. Call all methods in the event loop's thread.
    """

    def __init__(
        self,
        connection: Connection,
        introduced: Callable[[Channel], None],
        forget: Callable[[int], None],
        welcome: bytes = b"",
    ) -> None:
        dispatcher = Dispatcher(connection, self, introduced, forget)
        connection.sink = dispatcher
        super().__init__(connection, dispatcher, welcome)
        self._mailbox = dispatcher.mailbox
        self._queue = connection.queue
        self._deferred_sends: DeferredSends | None = None  # made for the first send that must wait

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """The ``SocketAttribute``s of anyio except ``raw_socket``: the addresses of both ends.

        There are none once the socket is closed. See ``anyio.TypedAttributeProvider.extra``.
        """
        return both_ends(self._queue.extra_info)

    # --- receiving ------------------------------------------------------------------------

    @fast
    async def receive(self) -> Message:
        """The next message. Cancelling the call loses no message.

        Raises:
            ChannelEnded: the peer sent a Bye, and all messages before it were received.
            PeerDisconnected, ProtocolViolation: the peer was lost, or broke the protocol.
            ChannelClosed: the channel was closed on this side.
            BusyResourceError: another task is receiving.
        """
        mailbox = self._mailbox
        while not mailbox.items:
            try:
                arrival = mailbox.arrival()
                if self._connection.suspension is not None:
                    self._connection.lend()
                await arrival
            except ChannelEnded:
                self._dispatcher.all_received()
                raise
        return mailbox.items.popleft()

    def receive_nowait(self) -> Message:
        """The next message, if one has arrived already.

        To take several at once, ``receive`` the first one, and then call this until it raises.
        Only ``receive`` and iterating tell that the channel has ended, so that error never comes
        between messages that were taken and what is to be done with them. Only they are lent room
        when the program keeps all that the channel may have.

        Raises:
            WouldBlock: none has arrived.
        """
        items = self._mailbox.items
        if not items:
            raise WouldBlock
        return items.popleft()

    @fast
    async def __anext__(self) -> Message:
        """The next message; the iteration ends at the peer's Bye."""
        # Without calling receive(): while messages wait, that saves a fifth of the time.
        mailbox = self._mailbox
        while not mailbox.items:
            try:
                arrival = mailbox.arrival()
                if self._connection.suspension is not None:
                    self._connection.lend()
                await arrival
            except ChannelEnded:
                self._dispatcher.all_received()
                raise StopAsyncIteration from None
        return mailbox.items.popleft()

    # --- sending --------------------------------------------------------------------------

    def post(self, message: Message) -> BinaryHeader:
        """Queue a message and return its header as sent. Never waits.

        The message is queued as it is now; changing or releasing it later has no effect.
        ``message_id`` 0 becomes the next free id. The queue has no bound here: use ``send`` to
        wait for room.

        Raises:
            InvalidMessageId: a response does not have its request's id.
            NotAllowed: the op code may not be sent in this state.
            PeerDisconnected, ProtocolViolation, ChannelClosed: the channel has ended.
            TypeError: it is not a message, or its status is not a ``Status``.
        """
        message_id = self._queue.enqueue_message(message)
        if not message._proto & OP_CODE_MASK:  # a REQUEST: the mailbox gets the response
            dispatcher = self._dispatcher
            (dispatcher.pending or dispatcher.pending_requests()).posted.add(message_id)
        return message.header_as(self.number, message_id)

    def _check(self, message: Message) -> int:
        """The id that ``post`` would send the message under; raises as it. From any thread."""
        return self._queue.check(message)

    @fast
    async def send(self, item: Message) -> None:
        """Wait for room, in order of arrival, then send the message.

        A cancelled call sends nothing. Even while there is always room, other tasks get a turn
        every 128 KiB of short messages; the same holds for ``signal`` and ``reply``.

        A received request or response that is longer than one message, because it was joined from
        its parts, is sent on in parts, as ``request`` and ``reply`` do.

        Raises:
            TofuError, TypeError: as ``post``.
        """
        queue = self._queue
        if queue.congested:
            await queue.wait_for_room()
        try:
            message_id = queue.enqueue_message(item, True)
        except InvalidBodyLen:
            if item._proto & PUBLIC_BITS not in {_REQUEST, _RESPONSE}:
                raise
            await self._deferred.forward(item)
            return
        if not item._proto & OP_CODE_MASK:  # as ``post``
            dispatcher = self._dispatcher
            (dispatcher.pending or dispatcher.pending_requests()).posted.add(message_id)

    @fast
    async def signal(
        self, body: Body = b"", headers: HeadersLike | None = None, *, message_id: int = 0
    ) -> None:
        """Send a message that needs no answer: ``await channel.signal(body)``.

        Raises:
            TofuError, TypeError: as ``post``, and as ``Message`` for what does not fit in one.
        """
        queue = self._queue
        text = encoded(headers) if headers else b""
        if queue.congested:
            await queue.wait_for_room()
        queue.enqueue(_SIGNAL, message_id, text, body, 0, True)

    @fast
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

        If the peer has cancelled the request, nothing is sent.

        Args:
            request: the received message to answer. The response gets its message id.
            body: of the response, of any length. A body of more than 65,535 bytes is sent in
                parts, one such body of a channel at a time; short messages are sent in between.
                ``request`` returns the whole, if it fits the ``max_body`` of the peer's engine.
            headers: of the response.
            status: SUCCESS, or why the request could not be fulfilled.
            more: whether this is only a part of the answer, and others follow.

        Raises:
            InvalidMoreUsage: this is only a part of a request: answer with ``stream(request)``.
            InvalidOpCode: it is not a request.
            NotAllowed: it was answered already.
            TofuError, TypeError: as ``post``, and as ``Message`` for what does not fit in one.
        """
        try:
            proto = request._proto
        except AttributeError:
            raise TypeError(
                f"reply() takes the request Message that was received, not {type(request).__name__}"
            ) from None
        if proto:
            raise not_to_be_answered(request)
        text = encoded(headers) if headers else b""
        incoming = self._dispatcher.incoming
        if incoming is not None and not self._is_wanted(incoming, request, more=more):
            return
        message_id = request.message_id
        queue = self._queue
        proto = _RESPONSE | MORE_BIT if more else _RESPONSE
        if not queue.congested:
            try:
                queue.enqueue(proto, message_id, text, body, status, True)
            except InvalidBodyLen:
                pass  # it needs several messages
            else:
                if not more:
                    request._proto = ANSWERED
                return
        claim = None if more else Claim(request)
        del request  # so that a task that waits for room does not keep it alive
        try:
            await self._deferred.reply(message_id, proto, text, body, status)
        except BaseException:
            if claim is not None:
                claim.withdraw()
            raise

    def _is_wanted(self, incoming: IncomingRequests, request: Message, *, more: bool) -> bool:
        """Whether the peer still waits for the answer."""
        if more:
            return self._dispatcher.is_awaited(request.message_id)
        if incoming.answered(request.message_id):
            return True
        request._proto = ANSWERED
        return False

    @property
    def _deferred(self) -> DeferredSends:
        if self._deferred_sends is None:
            self._deferred_sends = DeferredSends(self._connection, self._dispatcher)
        return self._deferred_sends

    @fast
    async def request(
        self,
        body: Body = b"",
        headers: HeadersLike | None = None,
        *,
        timeout: float | None = None,
        message_id: int = 0,
    ) -> Message:
        """Send a request and return its response, whatever its ``status`` is.

        Any number may be in flight: responses take no permits. Their ``body`` may be longer than
        that of one message. If the call times out or is cancelled, a late response is dropped and
        counted, and a peer with this library is notified.

        Args:
            body: of any length. More than 65,535 bytes are sent in parts, one such body of a
                channel at a time. A peer with this library gets the whole body, or answers with
                INVALID_BODY_LEN if it exceeds its ``max_body``. Other peers get the parts.
            headers: of the request.
            timeout: seconds, 0 or more, for sending and answering; None for no limit.
            message_id: of the parts sent before, if this request is the last of them.

        Raises:
            TimeoutError: no response came in time.
            InvalidBodyLen: the response is longer than ``max_body``: use ``stream``.
            AllocationFailed: the response is long, and ``joining_bytes`` are in use already.
            TypeError, ValueError: ``timeout`` is wrong.
            PeerDisconnected, ProtocolViolation, ChannelClosed: no response will come.
        """
        if timeout is not None:
            return await self._request_within(timeout, body, headers, message_id)
        pending = self._dispatcher.pending or self._dispatcher.pending_requests()
        if not message_id:
            message_id = next_message_id()
        elif message_id in pending.exchanges:
            raise InvalidMessageId(f"message id {message_id} belongs to an exchange: finish() that")
        text = encoded(headers) if headers else b""
        connection = self._connection
        queue = self._queue
        if queue.congested and queue.blocked:
            await queue.wait_for_room()
        # Nothing is awaited until the future is, so no answer can come in between.
        if message_id in pending.requests:
            raise InvalidMessageId(f"request {message_id} is in flight already")
        if connection.decoder.state is _BYE_HEARD:
            raise unanswerable()
        response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        try:
            queue.enqueue(_REQUEST, message_id, text, body, 0, True)
        except InvalidBodyLen:
            await self._deferred.request(message_id, text, body, response)
        else:
            pending.requests[message_id] = response
        if pending.posted or connection.suspension is not None:
            self._dispatcher.requested(message_id)
        try:
            return await response
        except asyncio.CancelledError:
            pending.give_up(message_id, response)
            raise

    async def _request_within(
        self, timeout: float, body: Body, headers: HeadersLike | None, message_id: int
    ) -> Message:
        checked_seconds("timeout", timeout)
        message_id = message_id or next_message_id()
        try:
            async with asyncio.timeout(timeout):
                return await self.request(body, headers, message_id=message_id)
        except TimeoutError:
            backlog = self._dispatcher.backlog()
            raise TimeoutError(
                f"no response to request {message_id} within {timeout:g} s{backlog}"
            ) from None

    # --- exchanges ------------------------------------------------------------------------

    def stream(
        self, request: Message | None = None, *, headers: HeadersLike | None = None
    ) -> Exchange:
        """One request and its answer, each in any number of parts, for an ``async with``.

        Without ``request``, this side makes a new request: ``send`` and ``finish`` send its parts,
        and receiving gives the parts of the answer. With a request that was received here, whole
        or only its first part, receiving gives that message and the other parts, and ``send`` and
        ``finish`` send the answer. The parts of an exchange are received only through it.

        Each side may have begun 1,024 exchanges that are not over; the next one waits in its first
        ``send``. A peer that does not wait has its requests refused beyond 4,096.

        Args:
            request: the part that was received first. Later parts go to the exchange only from
                this call on, so make it before receiving the channel's next message.
            headers: of the first part that is sent from here.

        Raises:
            InvalidOpCode: ``request`` is not a REQUEST.
            InvalidChannelNumber: ``request`` was not received on this channel.
            InvalidMessageId: the exchange of ``request`` is in progress already.
            NotAllowed: ``request`` was answered already, or the peer's Hello was not accepted yet.
            InvalidMessage, InvalidHeadersLen: as ``Message`` for headers that do not fit in one.
        """
        return open_exchange(self._connection, self._dispatcher, request, headers)

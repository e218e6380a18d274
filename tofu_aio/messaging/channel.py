"""A channel as a stream of messages: what most programs use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from anyio import CancelScope
from anyio.abc import ObjectStream

from ..checks import checked_seconds
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
from ..protocol.text_headers import HeadersLike, TextHeaders
from ..transport.socket_attributes import Attributes, both_ends
from .channel_life import ChannelLife
from .connection.connection import Connection
from .delivery.deferred_sends import DeferredSends
from .delivery.dispatcher import Dispatcher, unanswerable
from .delivery.exchange_opening import open_exchange
from .delivery.incoming_requests import IncomingRequests
from .delivery.parts import Body
from .delivery.replies import ANSWERED, Claim, not_to_be_answered
from .exchange import Exchange

# What the hot paths use for each message: a global is found faster than an enum's member.
_REQUEST: Final = int(OpCode.REQUEST)
_RESPONSE: Final = int(OpCode.RESPONSE)
_SIGNAL: Final = int(OpCode.SIGNAL)
_LAST_REGULAR: Final = _SIGNAL
_SUCCESS: Final = Status.SUCCESS
_BYE_HEARD: Final = State.BYE_HEARD


class Channel(ChannelLife, ObjectStream[Message]):
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
        dispatcher = Dispatcher(connection, self, introduced, forget)
        connection.sink = dispatcher
        super().__init__(connection, dispatcher, welcome)
        self._mailbox = dispatcher.mailbox
        self._deferred_sends: DeferredSends | None = None  # once a send could not be done at once

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """The ``SocketAttribute``s of anyio but for ``raw_socket``: the addresses of both ends.

        They are gone when the socket is. See ``anyio.TypedAttributeProvider.extra``.
        """
        return both_ends(self._connection.queue.extra_info)

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
                suspension = self._connection.suspension
                if suspension is not None:
                    suspension.lend()
                await arrival
            except ChannelEnded:
                self._dispatcher.all_received()
                raise
        return mailbox.items.popleft()

    async def __anext__(self) -> Message:
        """The next message; the iteration ends at the peer's Bye."""
        # Not by way of receive(): where messages are waiting, a coroutine less is a fifth less.
        mailbox = self._mailbox
        while not mailbox.items:
            try:
                arrival = mailbox.arrival()
                suspension = self._connection.suspension
                if suspension is not None:
                    suspension.lend()
                await arrival
            except ChannelEnded:
                self._dispatcher.all_received()
                raise StopAsyncIteration from None
        return mailbox.items.popleft()

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
        message_id = self._connection.queue.enqueue_message(message)
        if not message._proto & OP_CODE_MASK:  # a REQUEST: the mailbox gets the response
            dispatcher = self._dispatcher
            (dispatcher.pending or dispatcher.pending_requests()).posted.add(message_id)
        return message.header_as(self.number, message_id)

    def check(self, message: Message) -> int:
        """The id under which ``post`` would send the message now; raises as it. From any thread."""
        return self._connection.queue.check(message)

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
        if connection.queue.congested:
            await connection.queue.wait_for_room()
        try:
            message_id = connection.queue.enqueue_message(item, True)
        except InvalidBodyLen:
            if item._proto & PUBLIC_BITS not in {_REQUEST, _RESPONSE}:
                raise
            await self._deferred.forward(item)
            return
        if not item._proto & OP_CODE_MASK:  # as ``post``
            dispatcher = self._dispatcher
            (dispatcher.pending or dispatcher.pending_requests()).posted.add(message_id)

    async def signal(
        self, body: bytes = b"", headers: HeadersLike | None = None, *, message_id: int = 0
    ) -> None:
        """Send a message that needs no answer: ``await channel.signal(body)``.

        Raises:
            TofuError, TypeError: as ``post``, and as ``Message`` for what does not fit in one.
        """
        connection = self._connection
        text = TextHeaders(headers).encode() if headers else b""
        if connection.queue.congested:
            await connection.queue.wait_for_room()
        connection.queue.enqueue(_SIGNAL, message_id, text, body, 0, True)

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
        try:
            proto = request._proto
        except AttributeError:
            raise TypeError(
                f"a request is replied to, not {type(request).__name__}: give the Message "
                "that was received"
            ) from None
        if proto:
            raise not_to_be_answered(request)
        text = TextHeaders(headers).encode() if headers else b""
        incoming = self._dispatcher.incoming
        if incoming is not None and not self._is_wanted(incoming, request, more=more):
            return
        message_id = request.message_id
        queue = self._connection.queue
        if not (more or queue.congested):
            try:
                queue.enqueue(_RESPONSE, message_id, text, body, status, True)
            except InvalidBodyLen:
                pass  # it takes several messages
            else:
                request._proto = ANSWERED
                return
        proto = _RESPONSE | MORE_BIT if more else _RESPONSE
        claim = None if more else Claim(request)
        del request  # a task that waits for room, or was cancelled there, does not keep it alive
        try:
            await self._deferred.reply(message_id, proto, text, body, status)
        except BaseException:
            if claim is not None:
                claim.withdraw()
            raise

    def _is_wanted(self, incoming: IncomingRequests, request: Message, *, more: bool) -> bool:
        """Whether anybody waits for the answer."""
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
        pending = self._dispatcher.pending or self._dispatcher.pending_requests()
        if not message_id:
            message_id = next_message_id()
        elif message_id in pending.exchanges:
            raise InvalidMessageId(f"message id {message_id} belongs to an exchange: finish that")
        text = TextHeaders(headers).encode() if headers else b""
        connection = self._connection
        queue = connection.queue
        if queue.congested and (queue.paused or queue.senders_waiting):
            await queue.wait_for_room()
        # Nothing is awaited from here to the future's: no answer can come in between.
        if message_id in pending.requests:
            raise InvalidMessageId(f"request {message_id} is under way already")
        if connection.decoder.state is _BYE_HEARD:
            raise unanswerable()
        response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        try:
            connection.queue.enqueue(_REQUEST, message_id, text, body, 0, True)
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

    # --- requests that were taken back ----------------------------------------------------

    def cancelled(self, request: Message) -> bool:
        """Whether the caller of a request that was received here has given up.

        It was cancelled there, timed out, or has left its exchange; or the peer is gone. A peer
        tells this only if it runs this library. Each channel knows the last 1,024 requests that
        were taken back and not answered.
        """
        return not self._dispatcher.is_awaited(request.message_id) or self._dispatcher.deaf

    def cancel_scope(self, request: Message) -> AbstractContextManager[CancelScope]:
        """A block that is cancelled when the caller of a request gives up, or the peer is lost.

        ``with channel.cancel_scope(request): await channel.reply(request, await work())``

        It is an anyio ``CancelScope``: what waits in the block raises ``CancelledError`` there, and
        the block ends; ``scope.cancelled_caught`` tells whether that happened.

        Args:
            request: one that was received here.
        """
        cancelled = self.cancelled(request)
        return self._dispatcher.incoming_requests().cancel_scope(
            request.message_id, cancelled=cancelled
        )

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
        return open_exchange(self._connection, self._dispatcher, request, headers)

"""Delivery of a connection's messages to the calls and the mailbox of its channel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ...core import DispatcherFields, fast
from ...protocol.account import LENT, LENT_A_STREAM
from ...protocol.errors import ChannelEnded, PeerDisconnected, TofuError
from ...protocol.exemptions import Exemptions
from ...protocol.lifecycle import SEND, State
from ...protocol.message import Message
from ...protocol.op_code import OP_CODE_MASK, OpCode
from ...protocol.pool import Pool
from ...protocol.text_headers import EOF
from ...transport.peer import Peer, peer_of
from ..connection.agreements import Extension, shared
from ..connection.connection import Connection
from ..connection.handshake import note_hello
from ..connection.sending_rules import when_sending
from ..exchange import Exchange
from ..flow_control import backlog
from ..flow_control.receipts import inbox
from ..flow_control.usage import PoolUsage, of_connection, of_messages
from .incoming_requests import IncomingRequests
from .last_messages import LastMessages
from .mailbox import Mailbox
from .pending_requests import PendingRequests
from .wake_up import WakeUps

logger = logging.getLogger("tofu_aio")

_C = TypeVar("_C")

_BYE_HEARD: Final = State.BYE_HEARD
_LAST_REGULAR: Final = int(OpCode.SIGNAL)

# Shared by channels that have made no request yet, and have received none in parts.
_NOTHING_ASKED: Final = Exemptions(shared=True)
_TAKES_BACK: Final = Exemptions(shared=True, withdrawals=True)


class Dispatcher(DispatcherFields, Generic[_C]):
    """Sorts what a connection receives.

    Responses go to the ``request()`` that waits for them, parts to their exchange, and everything
    else to the mailbox. It is the connection's ``Sink``.

    Args:
        connection: the connection whose messages are sorted.
        channel: the argument for ``introduced``.
        introduced: called when the peer's Hello has arrived, when it is answered, at the end, and
            when the socket is closed.
        forget: called once, with the channel's number, when the socket is closed.

    Attributes:
        half_closed: whether the peer has sent its Bye with ``send_eof``, so that it still receives.
        hello: the peer's Hello, or its answer to this side's; None before.
        incoming: requests of the peer that need more than the mailbox; None before the first.
        mailbox: the messages for the application.
        peer: describes the peer; None before its Hello.
        pending: requests of this side; None before the first.
    """

    __slots__ = ()

    def __init__(
        self,
        connection: Connection,
        channel: _C,
        introduced: Callable[[_C], None],
        forget: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._introduced = introduced
        self._forget = forget
        self.mailbox = Mailbox(inbox())
        self.pending: PendingRequests | None = None
        self.incoming: IncomingRequests | None = None
        self.hello: Message | None = None
        self.peer: Peer | None = None
        self.half_closed = False
        connection.decoder.exempt = _NOTHING_ASKED

    # --- what the connection reports ------------------------------------------------------

    @fast
    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Sort messages: responses go to their requests, the rest to the mailbox."""
        if self.hello is None:
            self._introduce(batch.pop(0))
            if not batch:
                return
        if (
            self._connection.decoder.special
            or self.pending is not None
            or self.incoming is not None
        ):
            self._sort(batch, wake_ups)
            if not batch:
                return
        if batch[-1]._proto & OP_CODE_MASK <= _LAST_REGULAR:
            self.mailbox.deliver(batch, wake_ups)
            batch.clear()  # so that it keeps no message alive that the application drops
            return
        byes = []
        while batch and batch[-1]._proto & OP_CODE_MASK > _LAST_REGULAR:
            byes.append(batch.pop())
        if batch:
            self.mailbox.deliver(batch, wake_ups)
            batch.clear()
        while byes:
            self._bye_received(byes.pop())

    def accepted(self) -> None:
        """Report that the peer's Hello was answered: the channel is open."""
        self._introduced(self._channel)

    def ended(self, error: TofuError) -> None:
        """End the channel's incoming direction: the peer sends nothing more."""
        if self.mailbox.end is None:
            self.mailbox.finish(error)
        self._fail(when_sending(error))
        self._introduced(self._channel)

    def lost(self) -> None:
        """Cancel the work on requests: nothing that is sent reaches the peer any more."""
        if self.incoming is not None:
            self.incoming.cancel_scopes()

    def said(self) -> None:
        """Report that the last frame has left."""
        self._introduced(self._channel)

    def closed(self) -> None:
        """Report that the socket is closed."""
        self._introduced(self._channel)
        self._forget(self._connection.number)

    @property
    def waits(self) -> int:
        """How many messages the application may keep while a task waits; 0 if none waits."""
        exchanges = self.exchanges()
        if not self.mailbox.waits and not any(exchange._waits for exchange in exchanges):
            return 0
        return LENT + LENT_A_STREAM * len(exchanges)

    def suspended(self) -> None:
        """Warn, once, if responses cannot come because messages before them are not received.

        Not while the application keeps a message: it may be working on it, and receive the next
        one later.
        """
        pending = self.pending
        if pending is not None and pending.requests and not pending.warned and not self._kept():
            reason = self.backlog()
            if reason:
                pending.warned = True
                logger.warning(
                    "channel %d gets no response to its requests in flight (%d)%s",
                    self._connection.number,
                    len(pending.requests),
                    reason,
                )

    def _introduce(self, hello: Message) -> None:
        """Handle the first message: the peer's Hello, or its answer to this side's."""
        connection = self._connection
        self.hello = hello
        self.peer = peer_of(connection.queue.transport, connection.peer_address)
        hello.headers = headers = shared(hello.headers)
        answer = hello.op_code is OpCode.HELLO_RESPONSE
        note_hello(connection, headers.encode(), answer=answer, by_peer=True)
        if connection.peer_supports & Extension.CANCEL:
            connection.decoder.exempt = _TAKES_BACK
        self._introduced(self._channel)

    def _sort(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Take out messages for requests and exchanges, and leave the rest for the mailbox."""
        decoder, pending, incoming = self._connection.decoder, self.pending, self.incoming
        special, decoder.special = decoder.special, False
        if special and batch and not batch[-1].message_id:
            self._drain_noticed(batch.pop())
            if not batch:
                return
        if special or (pending is not None and pending.busy):
            self.pending_requests().sort(batch, wake_ups)
        if batch and (special or (incoming is not None and incoming.busy)):
            self.incoming_requests().sort(batch)

    def _drain_noticed(self, _: Message) -> None:
        """Handle the peer's drain notice. It is not a message of the application's."""
        self._connection.received -= 1
        self._exemptions().drain_noted = True
        self._connection.closing.drain.note()

    def _bye_received(self, bye: Message) -> None:
        """Handle a Bye, after which no response can come, only another Bye."""
        self.half_closed |= EOF in bye.headers
        self._fail(unanswerable())
        if self.mailbox.end is None:
            self.mailbox.finish(ChannelEnded("the peer said Bye"))
        if self._connection.decoder.state is not _BYE_HEARD:
            # This side sent its Bye first, and sends nothing more that has to precede the answer.
            self._answer_bye()
        elif not self.mailbox.items and not self.half_closed:
            # Everything before it was received. Answer now, because a program that only makes
            # requests never receives, and the peer would wait.
            self._answer_bye()

    def _answer_bye(self) -> None:
        connection = self._connection
        if connection.end is None and OpCode.BYE_RESPONSE in SEND[connection.decoder.state]:
            connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)

    # --- what the channel does ------------------------------------------------------------

    def all_received(self) -> None:
        """Note that the application has received everything before the peer's Bye."""
        if not self.half_closed:
            self._answer_bye()

    def report_no_more(self) -> None:
        """Stop calling ``introduced``: the task that connected has its channel."""
        self._introduced = _ignore

    def pending_requests(self) -> PendingRequests:
        """The requests of this side. Made at the first call."""
        if self.pending is None:
            self.pending = PendingRequests(self._connection)
            exempt = self._exemptions()
            exempt.awaited = self.pending.requests
            exempt.exchanges, exempt.posted = self.pending.exchanges, self.pending.posted
        return self.pending

    def requested(self, message_id: int) -> None:
        """Note that a request was sent, perhaps after posted parts. Its response may be here."""
        self.pending_requests().posted.discard(message_id)  # the response goes to ``request()``
        if self._connection.suspended:
            self._connection.reconsider()
            self.suspended()

    def incoming_requests(self) -> IncomingRequests:
        """The requests of the peer that need more than the mailbox. Made at the first call."""
        if self.incoming is None:
            self.incoming = IncomingRequests(self._connection, self.mailbox)
            self._exemptions().parts = self.incoming.parts
        return self.incoming

    def receive_no_more(self, error: TofuError) -> None:
        """Let the application receive what has arrived already, and then this error.

        The parts of its exchanges, and the responses to its requests, still reach it.
        """

        def finish() -> None:
            if self.mailbox.end is None:
                self.mailbox.finish(error)

        if self._connection.idle:
            finish()
        elif self._connection.sink is self:
            LastMessages(self._connection, self, finish)

    def close(self, error: TofuError) -> None:
        """Close on this side: receive nothing more, not even messages that have arrived."""
        for message in self.mailbox.close(error):
            message.release()
        if self.pending is not None:
            self.pending.close(error)
        if self.incoming is not None:
            self.incoming.close(error)

    def is_awaited(self, message_id: int) -> bool:
        """Whether the peer still waits for the answer to its request, as far as is known."""
        return self.incoming is None or not self.incoming.is_taken_back(message_id)

    @property
    def unreachable(self) -> bool:
        """Whether the peer takes no response any more."""
        connection = self._connection
        if connection.end is not None:
            return True
        # A peer whose channel is a stream drops responses after its Bye; others may want them.
        closes = connection.decoder.state is _BYE_HEARD and not self.half_closed
        return closes and Extension.CANCEL in connection.peer_supports

    def _exemptions(self) -> Exemptions:
        """The exemptions of this channel alone. Before the first call it uses shared ones."""
        decoder = self._connection.decoder
        exempt = decoder.exempt
        assert exempt is not None
        if exempt.shared:
            exempt = decoder.exempt = Exemptions(withdrawals=exempt.withdrawals)
        return exempt

    def _fail(self, error: TofuError) -> None:
        """Fail requests and exchanges: no response and no part will come any more."""
        if self.pending is not None:
            self.pending.fail(error)
        if self.incoming is not None:
            self.incoming.fail(error, unreachable=self.unreachable)

    def reports_to(self, introduced: object) -> bool:
        """Whether this function is called with the channel."""
        return self._introduced == introduced

    # --- what it holds --------------------------------------------------------------------

    @property
    def awaited(self) -> int:
        """Requests in flight."""
        return len(self.pending.requests) if self.pending is not None else 0

    @property
    def dropped(self) -> int:
        """Messages that were dropped because nothing waited for them."""
        late = self.pending.late if self.pending is not None else 0
        return late + self.incoming.dropped if self.incoming is not None else late

    def usage(self, pool: Pool) -> PoolUsage:
        """What the channel holds of a pool: messages to be received and messages to be sent."""
        return of_connection(self._connection, pool) + of_messages(self.mailbox.items, pool)

    def exchanges(self) -> list[Exchange]:
        """The exchanges in progress, whichever side has begun them."""
        own = self.pending.exchanges.values() if self.pending is not None else ()
        peers = self.incoming.exchanges.values() if self.incoming is not None else ()
        return [*own, *peers]

    def backlog(self) -> str:
        """What responses wait behind, in words: messages that are not received, or are kept."""
        if not self._connection.suspended:
            return ""
        unread = len(self.mailbox.items)
        exchanges = [exchange for exchange in self.exchanges() if exchange._unread]
        kept = self._kept()
        # A few messages in work are not the reason while more wait to be received.
        if kept <= unread + sum(len(exchange._unread) for exchange in exchanges):
            kept = 0
        return backlog.in_words(unread, exchanges, kept)

    def _kept(self) -> int:
        """Permits, and the reserve, that messages received and not released hold."""
        account = self._connection.decoder.account
        if account is None:
            return 0
        parts = (part for exchange in self.exchanges() for part in exchange._unread)
        own = of_messages((*self.mailbox.items, *parts), account.pool)
        own += of_connection(self._connection, account.pool)
        return account.worth_of_all - own.inbox - own.outgoing


def _ignore(_: object) -> None:
    """Do nothing. With the callback of ``connect``, an idle channel would keep its task alive."""


def unanswerable() -> TofuError:
    """The error of a request on a channel whose peer has sent a Bye."""
    return PeerDisconnected("the peer said Bye: no response can come any more")

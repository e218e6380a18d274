"""From a connection to the tasks of its channel: who gets which message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

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
from .mailbox import Mailbox
from .pending_requests import PendingRequests
from .wake_up import WakeUps

logger = logging.getLogger("tofu_aio")

_C = TypeVar("_C")

_BYE_HEARD: Final = State.BYE_HEARD
_LAST_REGULAR: Final = int(OpCode.SIGNAL)

# What channels share that have asked nothing yet, and have received no request in parts.
_NOTHING_ASKED: Final = Exemptions(shared=True)
_TAKES_BACK: Final = Exemptions(shared=True, withdrawals=True)


class Dispatcher(Generic[_C]):
    """Sorts what a connection receives.

    Responses go to the ``request()`` that waits for them, parts to their exchange, and everything
    else to the mailbox. It is the connection's ``Sink``.

    Args:
        connection: whose messages are sorted.
        channel: what ``introduced`` is told.
        introduced: called when the Hello has arrived, when it is answered, at the end, and when the
            socket is gone.
        forget: called once, with the number, when the socket is gone.

    Attributes:
        half_closed: the peer said Bye with ``send_eof``: it still receives.
        hello: the peer's Hello, or its answer to ours; None before.
        incoming: requests of the peer that are more than a message; None before the first.
        mailbox: what the application receives.
        peer: who the peer is; None before its Hello.
        pending: requests of this side; None before the first.
    """

    __slots__ = (
        "_channel",
        "_connection",
        "_forget",
        "_introduced",
        "half_closed",
        "hello",
        "incoming",
        "mailbox",
        "peer",
        "pending",
    )

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

    def deliver(self, batch: list[Message], wake_ups: WakeUps) -> None:
        """Sort what arrived: responses to those who asked, the rest to the mailbox."""
        if self.hello is None:
            self._introduce(batch.pop(0))
        if (
            self._connection.decoder.special
            or self.pending is not None
            or self.incoming is not None
            or not batch
        ):
            self._sort(batch, wake_ups)
            if not batch:
                return
        if batch[-1]._proto & OP_CODE_MASK <= _LAST_REGULAR:
            self.mailbox.deliver(batch, wake_ups)
            batch.clear()  # a message that the application drops is not kept here
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
        """The peer's Hello was answered: the channel is open."""
        self._introduced(self._channel)

    def ended(self, error: TofuError) -> None:
        """The peer will send no more."""
        if self.mailbox.end is None:
            self.mailbox.finish(error)
        self._fail(when_sending(error))
        self._introduced(self._channel)

    def lost(self) -> None:
        """Nothing that is sent arrives any more."""
        if self.incoming is not None:
            self.incoming.unheard()

    def said(self) -> None:
        """The last frame has left."""
        self._introduced(self._channel)

    def closed(self) -> None:
        """The socket is gone."""
        self._introduced(self._channel)
        self._forget(self._connection.number)

    @property
    def waits(self) -> int:
        """How many messages may be kept while a task waits for one, or for a part."""
        exchanges = self.exchanges()
        if not self.mailbox.waits and not any(exchange.waits for exchange in exchanges):
            return 0
        return LENT + LENT_A_STREAM * len(exchanges)

    def suspended(self) -> None:
        """Warn, once, if responses cannot come because nobody receives what is before them.

        While the application keeps a message it may be working on that, and receive the next one
        later.
        """
        pending = self.pending
        if pending is not None and pending.requests and not pending.warned and not self._kept():
            reason = self.backlog()
            if reason:
                pending.warned = True
                logger.warning(
                    "%d under way on channel %d: no response to a request%s",
                    len(pending.requests),
                    self._connection.number,
                    reason,
                )

    def _introduce(self, hello: Message) -> None:
        """The first message is the peer's Hello, or its answer to ours."""
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
        """Take out what belongs to requests and exchanges; the rest is for the mailbox."""
        decoder, pending, incoming = self._connection.decoder, self.pending, self.incoming
        special, decoder.special = decoder.special, False
        if special or (pending is not None and pending.busy):
            self.pending_requests().sort(batch, wake_ups)
        if batch and (special or (incoming is not None and incoming.busy)):
            self.incoming_requests().sort(batch)

    def _bye_received(self, bye: Message) -> None:
        """Only a Bye can follow a Bye, and no response."""
        self.half_closed |= EOF in bye.headers
        self._fail(unanswerable())
        if self.mailbox.end is None:
            self.mailbox.finish(ChannelEnded("the peer said Bye"))
        if self._connection.decoder.state is not _BYE_HEARD:
            # Ours was before it: nothing more is sent that an answer should wait for.
            self._answer_bye()
        elif not self.mailbox.items and not self.half_closed:
            # All before it has been received, perhaps by a program that does not receive at all but
            # only makes requests: the peer need not wait until somebody receives.
            self._answer_bye()

    def _answer_bye(self) -> None:
        connection = self._connection
        if connection.end is None and OpCode.BYE_RESPONSE in SEND[connection.decoder.state]:
            connection.queue.enqueue(OpCode.BYE_RESPONSE)

    # --- what the channel does ------------------------------------------------------------

    def all_received(self) -> None:
        """The application has received everything before the peer's Bye."""
        if not self.half_closed:
            self._answer_bye()

    def report_no_more(self) -> None:
        """The task that connected has the channel, and needs not be told of its life any more."""
        self._introduced = _ignore

    def pending_requests(self) -> PendingRequests:
        """The requests of this side, which begin now if there were none."""
        if self.pending is None:
            self.pending = PendingRequests(self._connection)
            exempt = self._exemptions()
            exempt.awaited = self.pending.requests
            exempt.exchanges, exempt.posted = self.pending.exchanges, self.pending.posted
        return self.pending

    def requested(self, message_id: int) -> None:
        """A request was sent. Its parts before may have been posted; its response may be here."""
        self.pending_requests().posted.discard(message_id)  # the response goes to ``request()``
        if self._connection.suspended:
            self._connection.reconsider()
            self.suspended()

    def incoming_requests(self) -> IncomingRequests:
        """The requests of the peer that are more than a message, likewise."""
        if self.incoming is None:
            self.incoming = IncomingRequests(self._connection, self.mailbox)
            self._exemptions().parts = self.incoming.parts
        return self.incoming

    def close(self, error: TofuError) -> None:
        """This side closes: nothing more is received, not even what is here."""
        for message in self.mailbox.close(error):
            message.release()
        if self.pending is not None:
            self.pending.close(error)
        if self.incoming is not None:
            self.incoming.close(error)

    def is_awaited(self, message_id: int) -> bool:
        """Whether the caller still waits for the answer to a request, as far as is known."""
        return self.incoming is None or not self.incoming.is_taken_back(message_id)

    @property
    def deaf(self) -> bool:
        """Whether the peer takes no response any more."""
        connection = self._connection
        if connection.end is not None:
            return True
        # Channels that are streams drop what comes after their Bye; others may wait for it.
        leaves = connection.decoder.state is _BYE_HEARD and not self.half_closed
        return leaves and Extension.CANCEL in connection.peer_supports

    def _exemptions(self) -> Exemptions:
        """Those of this channel; all share theirs before they ask or receive something special."""
        decoder = self._connection.decoder
        exempt = decoder.exempt
        assert exempt is not None
        if exempt.shared:
            exempt = decoder.exempt = Exemptions(withdrawals=exempt.withdrawals)
        return exempt

    def _fail(self, error: TofuError) -> None:
        """No response and no part will come any more."""
        if self.pending is not None:
            self.pending.fail(error)
        if self.incoming is not None:
            self.incoming.fail(error, deaf=self.deaf)

    # --- what it holds --------------------------------------------------------------------

    @property
    def awaited(self) -> int:
        """Requests in flight."""
        return len(self.pending.requests) if self.pending is not None else 0

    @property
    def dropped(self) -> int:
        """Messages that came for nobody."""
        late = self.pending.late if self.pending is not None else 0
        return late + self.incoming.dropped if self.incoming is not None else late

    def usage(self, pool: Pool) -> PoolUsage:
        """What it holds for the application and for the peer."""
        return of_connection(self._connection, pool) + of_messages(self.mailbox.items, pool)

    def exchanges(self) -> list[Exchange]:
        """Those in progress, whichever side has begun them."""
        own = self.pending.exchanges.values() if self.pending is not None else ()
        peers = self.incoming.exchanges.values() if self.incoming is not None else ()
        return [*own, *peers]

    def backlog(self) -> str:
        """What responses wait behind, for people: messages that are not received, or kept."""
        if not self._connection.suspended:
            return ""
        unread = len(self.mailbox.items)
        exchanges = [exchange for exchange in self.exchanges() if exchange.unread]
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
        parts = (part for exchange in self.exchanges() for part in exchange.unread)
        own = of_messages((*self.mailbox.items, *parts), account.pool)
        own += of_connection(self._connection, account.pool)
        return account.worth_of_all - own.inbox - own.outgoing


def _ignore(_: object) -> None:
    """Nobody is to be told. An idle channel would keep alive what was needed to connect."""


def unanswerable() -> TofuError:
    """Why a request has no response, or cannot be made."""
    return PeerDisconnected("the peer said Bye: no response can come any more")

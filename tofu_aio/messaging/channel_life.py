"""The life of a channel: its properties, accepting or rejecting it, and closing it."""

from __future__ import annotations

from typing import Final, TypeVar

from ..checks import checked_seconds
from ..core import ChannelFields
from ..protocol.errors import ChannelClosed, ChannelEnded, NotAllowed, TofuError, again
from ..protocol.lifecycle import BYE_SAID, State
from ..protocol.message import REJECTION, Message
from ..protocol.op_code import OpCode
from ..protocol.pool import Pool
from ..protocol.status import Status
from ..protocol.text_headers import EOF, HeadersLike, TextHeaders
from ..transport.peer import Peer
from .connection.connection import Connection
from .delivery.dispatcher import Dispatcher
from .flow_control.usage import PoolUsage
from .statistics import ChannelStatistics
from .triggers import Triggers

_C = TypeVar("_C")

_NO_BYE_HEARD: Final = frozenset({State.OPEN, State.BYE_SENT})
_HALF_CLOSE: Final = TextHeaders({EOF: "1"}).encode()


class ChannelLife(ChannelFields):
    """The part of a channel that does not deal with its messages.

    Args:
        connection: its connection.
        dispatcher: sorts its messages.
        welcome: the listener's own headers for the answer to a Hello, encoded.
    """

    def __init__(self, connection: Connection, dispatcher: Dispatcher[_C], welcome: bytes) -> None:
        self._connection = connection
        self._dispatcher = dispatcher
        self._welcome = welcome

    # --- properties -----------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The local number of the channel, 1 to 65534."""
        return self._connection.number

    @property
    def state(self) -> State:
        """The state of the channel's life cycle."""
        return State.CLOSED if self._connection.end is not None else self._connection.decoder.state

    @property
    def end(self) -> TofuError | None:
        """The error that says why nothing more will arrive; None while messages may arrive."""
        return self._connection.end

    @property
    def _closed_here(self) -> bool:
        # The mailbox ends before the peer's Bye only if the listener was closed here.
        told_so = self._dispatcher.mailbox.end is not None and self.state in _NO_BYE_HEARD
        return self._connection.closed_here or told_so

    @property
    def hello(self) -> Message:
        """The peer's Hello: its HELLO_REQUEST, or its answer to this side's."""
        assert self._dispatcher.hello is not None
        return self._dispatcher.hello

    @property
    def peer(self) -> Peer:
        """The peer's address, its process on a Unix socket, and its certified name with TLS.

        All as known when the peer's Hello, or its answer to this side's, arrived.
        """
        assert self._dispatcher.peer is not None
        return self._dispatcher.peer

    @property
    def triggers(self) -> Triggers:
        """What the channel waits for now; ERROR once the peer was lost, empty once closed."""
        connection = self._connection
        if connection.end is not None:
            orderly = isinstance(connection.end, ChannelEnded | ChannelClosed)
            return Triggers(0) if orderly else Triggers.ERROR
        if connection.decoder.state is State.HELLO_HEARD:
            return Triggers.ACCEPT
        triggers = Triggers.POOL if connection.decoder.starved else Triggers.RECV
        return triggers | Triggers.SEND if connection.queue.nbytes else triggers

    def statistics(self) -> ChannelStatistics:
        """A snapshot of the channel's counters."""
        connection = self._connection
        account, suspension = connection.decoder.account, connection.suspension
        return ChannelStatistics(
            received=connection.received,
            sent=connection.queue.sent,
            queued_bytes=connection.queue.nbytes,
            held=account.worth_of_all if account is not None else 0,
            awaited=self._dispatcher.awaited,
            suspended=connection.suspended,
            suspended_for=suspension.seconds if suspension is not None else 0.0,
            suspensions=suspension.suspensions if suspension is not None else 0,
            late_responses=self._dispatcher.dropped,
            triggers=self.triggers,
        )

    def _usage(self, pool: Pool) -> PoolUsage:
        """What the channel holds of a pool."""
        return self._dispatcher.usage(pool)

    def __repr__(self) -> str:
        return f"<Channel {self.number} {self.state.name.lower()}>"

    # --- deciding -------------------------------------------------------------------------

    def accept(self, body: bytes = b"", headers: HeadersLike | None = None) -> None:
        """Answer the peer's Hello, which opens the channel. Never waits.

        Args:
            body: of the answer, which the peer finds as ``channel.hello``.
            headers: of the answer.

        Raises:
            NotAllowed: the channel was accepted or rejected already, or the peer is the listener.
            PeerDisconnected, ProtocolViolation, ChannelClosed: the channel has ended.
            TofuError: as ``Message`` for what does not fit in one.
        """
        text = TextHeaders(headers).encode() if headers else b""
        self._check_undecided("accepted")
        self._connection.queue.enqueue_judged(
            OpCode.HELLO_RESPONSE, headers=self._welcome + text, body=body
        )

    async def reject(self, reason: str, status: Status = Status.NOT_ALLOWED) -> None:
        """Send the peer the reason for a refusal, and close once the peer has closed.

        The peer's ``connect`` raises ``ConnectFailed`` with the reason. So that it can read the
        reason, the peer has a second to close first. After that, or when cancelled, this side
        closes.

        Args:
            reason: for people; at most 65,535 bytes of UTF-8.
            status: for programs; not SUCCESS.

        Raises:
            ValueError: the status is SUCCESS.
            InvalidBodyLen: the reason is too long.
            NotAllowed, PeerDisconnected, ProtocolViolation, ChannelClosed: as ``accept``.
        """
        self._refuse(reason, status)
        await self._connection.closing.wait_refused()

    def _refuse(self, reason: str, status: Status) -> None:
        """Send the peer the reason for a refusal, after which nothing more is sent."""
        if status is Status.SUCCESS:
            raise ValueError("a rejection needs a status that says what is wrong, not SUCCESS")
        self._check_undecided("rejected")
        self._connection.queue.enqueue_judged(
            REJECTION, body=reason.encode("utf-8", "replace"), status=status
        )

    def _check_undecided(self, verb: str) -> None:
        state = self.state
        if state not in {State.HELLO_HEARD, State.CLOSED}:
            raise NotAllowed(f"a channel in state {state.name.lower()} cannot be {verb}")

    # --- closing --------------------------------------------------------------------------

    def drain(self) -> None:
        """Announce to the peer that this side will close the channel soon. Never waits.

        The peer's ``draining`` becomes true, and its ``wait_draining`` returns, once it has
        received everything sent before. Nothing else changes: messages go both ways until one side
        says Bye. A peer that does not know this, like the Zig library, is sent nothing. Does
        nothing when called again, or once the channel has ended.
        """
        if not self._connection.gate.owner_loop.in_parent:
            self._connection.closing.drain.announce()

    @property
    def draining(self) -> bool:
        """Whether this side or the peer has announced that it will close the channel soon."""
        closing = self._connection._closing  # None on most channels, and it stays so
        return closing is not None and closing.drain.announced

    async def wait_draining(self) -> None:
        """Wait until the peer or this side has announced that it will close the channel soon.

        Returns also when the channel has ended. Any number of tasks may wait.
        """
        await self._connection.closing.drain.wait()

    async def send_eof(self) -> None:
        """Half-close: send nothing more, and go on receiving until the peer closes too.

        On the wire this is a Bye with the header ``~eof``, which asks the peer to finish first. A
        peer that does not know the header, like the Zig library, hands the message to its
        application as any other Bye.

        Does nothing if this side has sent a Bye already.

        Raises:
            PeerDisconnected, ProtocolViolation: the peer was lost, or broke the protocol.
            ChannelClosed: the channel was closed on this side.
        """
        connection = self._connection
        closed = self._dispatcher.mailbox.end
        if isinstance(closed, ChannelClosed):
            raise again(closed)
        if self.state in BYE_SAID or isinstance(connection.end, ChannelEnded):
            return
        if self.state is State.BYE_HEARD:
            # The peer has sent everything, too.
            connection.queue.enqueue_judged(OpCode.BYE_RESPONSE)
        else:
            connection.queue.enqueue_judged(OpCode.BYE_REQUEST, headers=_HALF_CLOSE)

    async def aclose(self, timeout: float | None = None) -> None:
        """Send a Bye, wait for the answer, and close. The peer gets everything sent before.

        If the peer has sent a Bye, answer it, and wait at most a second for the peer to close
        first. Messages that the peer still sends are dropped. May be called from any task, and
        again.

        Args:
            timeout: seconds that it may take. None: until the peer has taken nothing for 5
                seconds. After that the channel is closed in order if the kernel has all bytes,
                since it goes on delivering them. Otherwise the connection is reset, and a warning
                says how many bytes were not sent. A cancelled call resets the connection.

        Raises:
            TypeError, ValueError: ``timeout`` is not a number of seconds, 0 or more.
        """
        if timeout is not None:
            checked_seconds("timeout", timeout)
        self._dispatcher.close(_closed_here())
        await self._connection.closing.aclose(timeout)

    def _leave(self) -> None:
        """Close as ``aclose`` does, without a task that waits for it."""
        self._dispatcher.close(_closed_here())
        self._connection.closing.close_soon()

    async def _part(self) -> None:
        """Close as ``aclose`` does, but do not wait for a peer that only has to close."""
        self._dispatcher.close(_closed_here())
        await self._connection.closing.aclose_unless_lingering()

    def abort(self) -> None:
        """Reset the connection at once: drop what is queued, and receive nothing more."""
        error = ChannelClosed("the channel was aborted on this side")
        self._dispatcher.close(error)
        self._connection.closing.abort(error)


def _closed_here() -> TofuError:
    return ChannelClosed("the channel was closed on this side")

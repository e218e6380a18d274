"""The life of a channel: what is known of it, whether it is opened, and how it is closed."""

from __future__ import annotations

from typing import Final, TypeVar

from ..checks import checked_seconds
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

_HALF_CLOSE: Final = TextHeaders({EOF: "1"}).encode()


class ChannelLife:
    """The part of a channel that has nothing to do with its messages.

    Args:
        connection: the engine's half.
        dispatcher: what sorts its messages.
        welcome: the listener's headers, encoded, of its answer to a Hello.
    """

    def __init__(self, connection: Connection, dispatcher: Dispatcher[_C], welcome: bytes) -> None:
        self._connection = connection
        self._dispatcher = dispatcher
        self._welcome = welcome

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
        assert self._dispatcher.hello is not None
        return self._dispatcher.hello

    @property
    def peer(self) -> Peer:
        """Who is at the other end: address, and on a Unix socket the process, or by TLS the name.

        It is what was known when the peer's Hello, or its answer to ours, arrived.
        """
        assert self._dispatcher.peer is not None
        return self._dispatcher.peer

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
        return triggers | Triggers.SEND if connection.queue.nbytes else triggers

    def statistics(self) -> ChannelStatistics:
        """A snapshot of its counters."""
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
        """What it holds of a pool."""
        return self._dispatcher.usage(pool)

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
        self._connection.queue.enqueue(
            OpCode.HELLO_RESPONSE, headers=self._welcome + text, body=body
        )

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
        await self._connection.closing.wait_refused()

    def _refuse(self, reason: str, status: Status) -> None:
        """Tell the peer why it is not accepted: nothing more travels then."""
        if status is Status.SUCCESS:
            raise ValueError("a rejection needs a status that says what is wrong, not SUCCESS")
        self._check_undecided("rejected")
        self._connection.queue.enqueue(
            REJECTION, body=reason.encode("utf-8", "replace"), status=status
        )

    def _check_undecided(self, verb: str) -> None:
        state = self.state
        if state not in {State.HELLO_HEARD, State.CLOSED}:
            raise NotAllowed(f"a channel in state {state.name.lower()} cannot be {verb}")

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
        closed = self._dispatcher.mailbox.end
        if isinstance(closed, ChannelClosed):
            raise again(closed)
        if self.state in BYE_SAID or isinstance(connection.end, ChannelEnded):
            return
        if self.state is State.BYE_HEARD:
            connection.queue.enqueue(OpCode.BYE_RESPONSE)  # the peer has sent all as well
        else:
            connection.queue.enqueue(OpCode.BYE_REQUEST, headers=_HALF_CLOSE)

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
        self._dispatcher.close(_closed_here())
        await self._connection.closing.aclose(timeout)

    def _leave(self) -> None:
        """Close as ``aclose`` does, with nobody waiting for it."""
        self._dispatcher.close(_closed_here())
        self._connection.closing.close_soon()

    async def _part(self) -> None:
        """Close as ``aclose`` does, but do not wait for a peer that is only to hang up."""
        self._dispatcher.close(_closed_here())
        await self._connection.closing.aclose_unless_lingering()

    def abort(self) -> None:
        """Reset the connection, at once: nothing queued is sent, nothing more is received."""
        error = ChannelClosed("the channel was aborted on this side")
        self._dispatcher.close(error)
        self._connection.closing.abort(error)


def _closed_here() -> TofuError:
    return ChannelClosed("the channel was closed on this side")

"""Every status but SUCCESS as an exception.

Where the ecosystem has a word for the failure the class inherits that too, so that code written
against ``OSError``, ``ValueError`` or anyio's stream exceptions works unchanged.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

from .status import Status

if TYPE_CHECKING:
    from .message import Message


class TofuError(Exception):
    """The root of all exceptions of this package.

    Attributes:
        status: the status that the failure has on the wire.
    """

    status: Status = Status.UNKNOWN_ERROR

    def __str__(self) -> str:
        """The message; without one, the status in words."""
        # Some bases are OSError, whose own __str__ reads errno and strerror.
        return str(self.args[0]) if self.args else self.status.name.lower().replace("_", " ")


class NotImplementedYet(TofuError, NotImplementedError):
    """The operation exists in the protocol but not in this version."""

    status = Status.NOT_IMPLEMENTED_YET


class WrongAddress(TofuError, ValueError):
    """The address is well formed but cannot serve this purpose."""

    status = Status.WRONG_ADDRESS


class NotAllowed(TofuError):
    """The channel's state does not allow this message now."""

    status = Status.NOT_ALLOWED


class NullMessage(TofuError, ValueError):
    """There is no message where one is needed."""

    status = Status.NULL_MESSAGE


class InvalidMessage(TofuError, ValueError):
    """The message breaks a rule of the protocol."""

    status = Status.INVALID_MESSAGE


class InvalidOpCode(TofuError, ValueError):
    """The op code is unknown, or not one that may come here."""

    status = Status.INVALID_OP_CODE


class InvalidHeadersLen(TofuError, ValueError):
    """The text headers are longer than 65,535 bytes."""

    status = Status.INVALID_HEADERS_LEN


class InvalidBodyLen(TofuError, ValueError):
    """The body is longer than 65,535 bytes."""

    status = Status.INVALID_BODY_LEN


class InvalidMoreUsage(TofuError, ValueError):
    """The more bit is set on a message that is not a regular one."""

    status = Status.INVALID_MORE_USAGE


class InvalidChannelNumber(TofuError, ValueError):
    """No channel has this number (any more)."""

    status = Status.INVALID_CHANNEL_NUMBER


class InvalidChannelGroup(TofuError, ValueError):
    """The channel belongs to another group."""

    status = Status.INVALID_CHANNEL_GROUP


class InvalidMessageId(TofuError, ValueError):
    """A response without its request's id, or an id out of range."""

    status = Status.INVALID_MESSAGE_ID


class InvalidAddress(TofuError, ValueError):
    """The address is malformed, or too long for a socket."""

    status = Status.INVALID_ADDRESS


class UdsPathNotFound(TofuError, FileNotFoundError):
    """There is no socket at this path."""

    status = Status.UDS_PATH_NOT_FOUND


class NotificationDisabled(TofuError):
    """The receiver does not take notifications."""

    status = Status.NOTIFICATION_DISABLED


class NotificationFailed(TofuError):
    """The receiver could not be woken."""

    status = Status.NOTIFICATION_FAILED


class PeerDisconnected(TofuError, BrokenResourceError):
    """The peer went away without a Bye."""

    status = Status.PEER_DISCONNECTED


class CommunicationFailed(TofuError, BrokenResourceError):
    """The connection failed."""

    status = Status.COMMUNICATION_FAILED


class PoolEmpty(TofuError):
    """Every permit of the pool is taken."""

    status = Status.POOL_EMPTY


class AllocationFailed(TofuError, MemoryError):
    """There is no room: memory, or channel numbers, have run out."""

    status = Status.ALLOCATION_FAILED


class ReceiverUpdate(TofuError):
    """Another task or thread woke the receiver."""

    status = Status.RECEIVER_UPDATE


class ChannelClosed(TofuError, ClosedResourceError):
    """The channel, exchange, listener or group was closed on this side."""

    status = Status.CHANNEL_CLOSED


class ChannelEnded(TofuError, EndOfStream):
    """The peer said Bye, or its last part, and everything it sent before has been received."""

    status = Status.CHANNEL_CLOSED


class ShutdownStarted(TofuError, ClosedResourceError):
    """The engine is shutting down."""

    status = Status.SHUTDOWN_STARTED


class ProtocolViolation(TofuError, BrokenResourceError):
    """The peer sent what the protocol forbids, and the channel was closed for it.

    Its ``status`` is the one that names the rule.
    """

    status = Status.INVALID_MESSAGE

    def __init__(self, text: str, status: Status = Status.INVALID_MESSAGE) -> None:
        super().__init__(text)
        self.status = status


class ExchangeFailed(TofuError, BrokenResourceError):
    """The peer ended an exchange of parts with another status than SUCCESS.

    Its ``status`` is the peer's.

    Attributes:
        part: the last one, with the body and the headers that say more; None if there was none.
        channel_number: of its channel, on this side.
    """

    status = Status.PROCESSING_FAILED

    def __init__(
        self,
        text: str,
        status: Status = Status.PROCESSING_FAILED,
        part: Message | None = None,
        *,
        channel_number: int = 0,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.part = part
        self.channel_number = channel_number if part is None else part.channel_number


class ConnectFailed(TofuError, ConnectionError):
    """The host has no address, the peer cannot be reached, or it did not accept the channel.

    Attributes:
        answer: the listener's answer if it refused the channel, whose body is the whole reason.
    """

    status = Status.CONNECT_FAILED

    def __init__(self, *args: object, answer: Message | None = None) -> None:
        super().__init__(*args)
        self.answer = answer


class ListenFailed(TofuError, OSError):
    """The host has no address, or its address cannot be listened on."""

    status = Status.LISTEN_FAILED


class Rejected(TofuError):
    """Raised by ``decide`` to refuse a channel: its text and its status are what the peer is told.

    The peer's ``connect`` raises `ConnectFailed`, and as its ``__cause__`` the exception that the
    status has.

    Args:
        text: the reason, in the peer's hands.
        status: any but SUCCESS.
    """

    status = Status.NOT_ALLOWED

    def __init__(self, text: str = "", status: Status = Status.NOT_ALLOWED) -> None:
        if status is Status.SUCCESS:
            raise ValueError("a rejection has another status than SUCCESS: return to accept")
        super().__init__(*[text] if text else [])
        self.status = status


class AcceptFailed(TofuError, OSError):
    """A connection that came in could not be accepted."""

    status = Status.ACCEPT_FAILED


class SendFailed(TofuError, BrokenResourceError):
    """Sending failed."""

    status = Status.SEND_FAILED


class RecvFailed(TofuError, BrokenResourceError):
    """Receiving failed."""

    status = Status.RECV_FAILED


class SetsockoptFailed(TofuError, OSError):
    """A socket option could not be set."""

    status = Status.SETSOCKOPT_FAILED


class ProcessingFailed(TofuError):
    """The peer could not process the request."""

    status = Status.PROCESSING_FAILED


class UnknownError(TofuError):
    """A status that this version does not know."""

    status = Status.UNKNOWN_ERROR


# These share their status with the class proper.
_OTHERS: Final = (ChannelEnded, ProtocolViolation, ExchangeFailed, Rejected)

ERRORS: Final[dict[Status, type[TofuError]]] = {
    error.status: error for error in TofuError.__subclasses__() if error not in _OTHERS
}
"""The exception class of each status but SUCCESS."""


def again(error: TofuError) -> TofuError:
    """A copy to raise: one object raised in several tasks would mix up their tracebacks."""
    fresh = copy(error)
    fresh.__cause__ = error.__cause__
    return fresh

"""An exception class for each status but SUCCESS.

Where Python or anyio has an exception for the failure, the class inherits from that as well. So
code that catches ``OSError``, ``ValueError`` or anyio's stream exceptions works unchanged.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

from .status import Status

if TYPE_CHECKING:
    from .message import Message


class TofuError(Exception):
    """The base class of all exceptions of this package.

    Attributes:
        status: the status that stands for the failure on the wire.
    """

    status: Status = Status.UNKNOWN_ERROR

    def __str__(self) -> str:
        """The text of the exception; without one, the status in words."""
        # Some subclasses are an OSError, whose __str__ looks at errno and strerror.
        return str(self.args[0]) if self.args else self.status.name.lower().replace("_", " ")


class NotImplementedYet(TofuError, NotImplementedError):
    """The protocol has this operation, but this version does not implement it."""

    status = Status.NOT_IMPLEMENTED_YET


class WrongAddress(TofuError, ValueError):
    """The address is well formed, but cannot be used for this purpose."""

    status = Status.WRONG_ADDRESS


class NotAllowed(TofuError):
    """The channel's state does not allow this message now."""

    status = Status.NOT_ALLOWED


class NullMessage(TofuError, ValueError):
    """None was given where a message is needed."""

    status = Status.NULL_MESSAGE


class InvalidMessage(TofuError, ValueError):
    """The message breaks a rule of the protocol."""

    status = Status.INVALID_MESSAGE


class InvalidOpCode(TofuError, ValueError):
    """The op code is unknown, or not allowed here."""

    status = Status.INVALID_OP_CODE


class InvalidHeadersLen(TofuError, ValueError):
    """The text headers are longer than 65,535 bytes."""

    status = Status.INVALID_HEADERS_LEN


class InvalidBodyLen(TofuError, ValueError):
    """The body is longer than 65,535 bytes."""

    status = Status.INVALID_BODY_LEN


class InvalidMoreUsage(TofuError, ValueError):
    """The more bit is set on a message that is not regular."""

    status = Status.INVALID_MORE_USAGE


class InvalidChannelNumber(TofuError, ValueError):
    """No channel has this number, or none has it any more."""

    status = Status.INVALID_CHANNEL_NUMBER


class InvalidChannelGroup(TofuError, ValueError):
    """The channel belongs to another group."""

    status = Status.INVALID_CHANNEL_GROUP


class InvalidMessageId(TofuError, ValueError):
    """A response does not have the id of its request, or an id is out of range."""

    status = Status.INVALID_MESSAGE_ID


class InvalidAddress(TofuError, ValueError):
    """The address is malformed, or too long for a socket."""

    status = Status.INVALID_ADDRESS


class UdsPathNotFound(TofuError, FileNotFoundError):
    """There is no socket at this path."""

    status = Status.UDS_PATH_NOT_FOUND


class NotificationDisabled(TofuError):
    """The receiver does not accept notifications."""

    status = Status.NOTIFICATION_DISABLED


class NotificationFailed(TofuError):
    """The receiver could not be woken."""

    status = Status.NOTIFICATION_FAILED


class PeerDisconnected(TofuError, BrokenResourceError):
    """The connection ended without a Bye from the peer."""

    status = Status.PEER_DISCONNECTED


class CommunicationFailed(TofuError, BrokenResourceError):
    """The connection failed."""

    status = Status.COMMUNICATION_FAILED


class PoolEmpty(TofuError):
    """The pool is exhausted: all its permits are taken."""

    status = Status.POOL_EMPTY


class AllocationFailed(TofuError, MemoryError):
    """Memory or channel numbers are used up."""

    status = Status.ALLOCATION_FAILED


class ReceiverUpdate(TofuError):
    """Another task or thread woke the receiver."""

    status = Status.RECEIVER_UPDATE


class ChannelClosed(TofuError, ClosedResourceError):
    """The channel, exchange, listener or group was closed on this side."""

    status = Status.CHANNEL_CLOSED


class ChannelEnded(TofuError, EndOfStream):
    """The peer sent a Bye or the last part, and everything before it has been received."""

    status = Status.CHANNEL_CLOSED


class ShutdownStarted(TofuError, ClosedResourceError):
    """The engine is shutting down."""

    status = Status.SHUTDOWN_STARTED


class ProtocolViolation(TofuError, BrokenResourceError):
    """The peer broke a rule of the protocol, so the channel was closed.

    Its ``status`` names the rule.
    """

    status = Status.INVALID_MESSAGE

    def __init__(self, text: str, status: Status = Status.INVALID_MESSAGE) -> None:
        super().__init__(text)
        self.status = status


class ExchangeFailed(TofuError, BrokenResourceError):
    """The peer ended an exchange with a status other than SUCCESS.

    Its ``status`` is the one from the peer.

    Attributes:
        part: the last part, whose body and headers may say more; None if there was none.
        channel_number: the number of the channel, on this side.
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
    """The host has no address, the peer cannot be reached, or it refused the channel.

    Attributes:
        answer: the answer of a listener that refused the channel; its body is the full reason. None
            if there was no answer.
    """

    status = Status.CONNECT_FAILED

    def __init__(self, *args: object, answer: Message | None = None) -> None:
        super().__init__(*args)
        self.answer = answer


class ListenFailed(TofuError, OSError):
    """The host has no address, or it is not possible to listen on its address."""

    status = Status.LISTEN_FAILED


class Rejected(TofuError):
    """Raised by ``decide`` to refuse a channel. Its text and its status are sent to the peer.

    There, ``connect`` raises `ConnectFailed`, whose ``__cause__`` is the exception for the status.

    Args:
        text: the reason, for the peer to read.
        status: any status but SUCCESS.

    Raises:
        ValueError: the status is SUCCESS.
    """

    status = Status.NOT_ALLOWED

    def __init__(self, text: str = "", status: Status = Status.NOT_ALLOWED) -> None:
        if status is Status.SUCCESS:
            raise ValueError(
                "a rejection cannot have the status SUCCESS: use another one, or return to accept"
            )
        super().__init__(*[text] if text else [])
        self.status = status


class AcceptFailed(TofuError, OSError):
    """A pending connection could not be accepted."""

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


# Their statuses belong to other classes.
_OTHERS: Final = (ChannelEnded, ProtocolViolation, ExchangeFailed, Rejected)

ERRORS: Final[dict[Status, type[TofuError]]] = {
    error.status: error for error in TofuError.__subclasses__() if error not in _OTHERS
}
"""The exception class of each status but SUCCESS."""


def again(error: TofuError) -> TofuError:
    """Return a copy to raise: one object raised in several tasks would mix up their tracebacks."""
    fresh = copy(error)
    fresh.__cause__ = error.__cause__
    if hasattr(error, "__notes__"):
        fresh.__notes__ = list(error.__notes__)
    return fresh

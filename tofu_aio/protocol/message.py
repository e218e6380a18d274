"""The message: a binary header, text headers and a body."""

from __future__ import annotations

import struct
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ..core import COMPILED, MessageFields, fast
from .account import Account
from .atomic import FREE_THREADED, ONE_AT_A_TIME
from .binary_header import HEADER, MAX_MESSAGE_ID, MAX_PART, UNASSIGNED_CHANNEL, BinaryHeader
from .errors import (
    InvalidBodyLen,
    InvalidChannelNumber,
    InvalidMessageId,
    InvalidMoreUsage,
    InvalidOpCode,
    NullMessage,
)
from .op_code import (
    MORE_BIT,
    OP_CODE_MASK,
    OP_CODES,
    ORIGIN_BIT,
    PEER_BITS,
    PUBLIC_BITS,
    MessageType,
    OpCode,
    Origin,
    pack_proto,
)
from .status import Status
from .text_headers import EMPTY_HEADERS, HeadersLike, TextHeaders

if TYPE_CHECKING:
    from .pool import Permit

next_message_id: Final = count(1).__next__
"""Returns the next message id of this process, in any thread: ``next`` on a count is atomic."""


_COPIED: Final = ("_proto", "body", "channel_number", "headers", "message_id", "status")

_MAX_STATUS: Final = 0xFF

REJECTION: Final = pack_proto(OpCode.HELLO_RESPONSE, origin=Origin.ENGINE)
"""The proto byte of a HELLO_RESPONSE that refuses a channel. A client of the Zig library reads the
status only if the origin is the engine; any HELLO_RESPONSE of an application is a success."""


class Message(MessageFields):
    """One message, received or to be sent.

    A received message holds permits of the engine's pool, or its channel's reserve, until it is
    released: by ``release``, at the end of a ``with`` block, by being sent on, or by garbage
    collection. Its channel may not be read until then, so do not keep a message longer than you
    need it. The response to a ``request`` holds no permit, and neither does a copy or a pickle.

    Args:
        op_code: what the message does.
        body: at most 65,535 bytes. Send larger content in parts, see ``more``.
        headers: a mapping or (name, value) pairs, at most 65,535 bytes when encoded.
        message_id: connects a response to its request, and the parts of one message to each other.
            With 0 the channel assigns the next free id.
        more: more parts follow under the same message id. Only for regular messages.

    Attributes:
        channel_number: the local number of the channel that the message came from or is posted to;
            0 if there is none yet.
        message_id: see above.
        status: SUCCESS, or why the message was returned or the request refused.
        headers: the text headers.
        body: the content.

    Raises:
        InvalidOpCode: ``op_code`` is not one of the ten op codes.
        InvalidMoreUsage: ``more`` is set for a message that is not regular.
        InvalidMessageId: ``message_id`` is not from 0 to 2**64 - 1.
        InvalidBodyLen: ``body`` is too long.
        InvalidHeadersLen: ``headers`` are too long.
        InvalidMessage: a header breaks a rule of the wire format.
        TypeError: ``body`` is not bytes-like, or ``headers`` are not pairs of str.
    """

    __slots__ = ()

    _permit: Permit | None  # given back when the message is released
    _proto: int
    status: Status
    channel_number: int
    message_id: int
    headers: TextHeaders
    body: bytes

    def __init__(
        self,
        op_code: OpCode,
        body: bytes | bytearray | memoryview = b"",
        headers: HeadersLike | None = None,
        message_id: int = 0,
        more: bool = False,
    ) -> None:
        self._permit = None
        try:
            op_code = OpCode(op_code)
        except ValueError:
            raise InvalidOpCode(
                f"{op_code!r} is not an op code: use an OpCode, such as OpCode.REQUEST"
            ) from None
        if more and op_code.message_type is not MessageType.REGULAR:
            raise InvalidMoreUsage(
                f"{op_code.name} cannot have more parts: only REQUEST, RESPONSE and SIGNAL can"
            )
        if not 0 <= message_id <= MAX_MESSAGE_ID:
            raise _unfit_id(message_id)
        self._proto = pack_proto(op_code, more=more)
        self.status = Status.SUCCESS
        self.channel_number = UNASSIGNED_CHANNEL
        self.message_id = message_id
        self.headers = EMPTY_HEADERS if headers is None else TextHeaders(headers)
        self.body = checked_body(body)

    @property
    def op_code(self) -> OpCode:
        """What the message does."""
        return OP_CODES[self._proto & OP_CODE_MASK]

    @property
    def origin(self) -> Origin:
        """Whether an application made the message, or the engine as a status notification."""
        return Origin.ENGINE if self._proto & ORIGIN_BIT else Origin.APPLICATION

    @property
    def more(self) -> bool:
        """Whether more parts follow under the same message id."""
        return bool(self._proto & MORE_BIT)

    @property
    def _wire_proto(self) -> int:
        """The proto byte as it is sent. Its origin is the application, except for a rejection."""
        proto = self._proto & PEER_BITS
        return REJECTION if proto == OpCode.HELLO_RESPONSE and self.status else proto

    def header_as(self, channel_number: int, message_id: int) -> BinaryHeader:
        """The header with which this message is sent under the given numbers."""
        return BinaryHeader(
            channel_number,
            self._wire_proto,
            self.status,
            message_id,
            len(self.headers.encode()),
            len(self.body),
        )

    def encode(self) -> bytes:
        """The frame as it is sent, with the numbers that the message has now.

        Raises:
            InvalidBodyLen, InvalidChannelNumber, InvalidMessageId: an attribute was set to a value
                that the frame has no room for.
            TypeError: the status or the body is none.
        """
        headers = self.headers.encode()
        body = checked_body(self.body)
        try:
            header = HEADER.pack(
                self.channel_number,
                self._proto & PUBLIC_BITS,
                self.status,
                self.message_id,
                len(headers),
                len(body),
            )
        except struct.error:
            check_status(self.status)
            if 0 <= self.message_id <= MAX_MESSAGE_ID:
                raise InvalidChannelNumber(
                    f"the channel number is {self.channel_number}: it must be from 0 to 65535"
                ) from None
            raise _unfit_id(self.message_id) from None
        return b"".join((header, headers, body))

    @fast
    def release(self) -> None:
        """Give the permits back to the pool. It may be called again, and then does nothing.

        The headers and the body stay readable.
        """
        permit = self._take_permit()
        if permit is not None:
            permit.release()

    if not COMPILED:  # the compiled fields have a finalizer of their own

        def __del__(self) -> None:
            try:
                permit = self._permit
            except AttributeError:  # it runs even if __init__ has raised
                return
            self._permit = None  # another object's finalizer may save the message
            if type(permit) is Account:  # most often: ``Account.release``, without calling it
                kind = permit.taken.pop()
                if kind:  # not a permit of the pool, which is 0
                    permit.restore(kind)
                    return
                pool = permit.pool
                pool.free.append(None)
                # The order is that of Pool.release, which is written out here to save a call.
                if pool.suspended:
                    pool._on_release()
            elif permit is not None:
                permit.release()

    if FREE_THREADED:

        @fast
        def _take_permit(self) -> Permit | None:
            """Remove and return the permit. Of several threads that call this, one gets it."""
            with ONE_AT_A_TIME:
                permit, self._permit = self._permit, None
            return permit

    else:

        def _take_permit(self) -> Permit | None:
            """Remove and return the permit. Of several threads that call this, one gets it."""
            permit, self._permit = self._permit, None  # the GIL is only released at calls and loops
            return permit

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        # For copy and pickle. Only the original gives the permit back, which was taken once.
        return None, {"_permit": None, **{name: getattr(self, name) for name in _COPIED}}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        words = [self.op_code.name, f"#{self.message_id}", f"channel={self.channel_number}"]
        if self.more:
            words.append("more")
        if self.origin is Origin.ENGINE:
            words.append("from=engine")
        if self.status is not Status.SUCCESS:
            words.append(f"status={self.status.name.lower()}")
        if self.headers.pairs:
            words.append(f"headers={list(self.headers.pairs)!r}")
        return f"<Message {' '.join(words)} body={len(self.body)} B>"


def _unfit_id(message_id: int) -> InvalidMessageId:
    return InvalidMessageId(f"the message id is {message_id}: it must be from 0 to 2**64 - 1")


def notification(
    status: Status, channel_number: int = UNASSIGNED_CHANNEL, message_id: int = 0
) -> Message:
    """Make a status notification from the engine to the application. It is never sent to a peer."""
    message = Message(OpCode.SIGNAL, message_id=message_id)
    return returned(message, status, channel_number)


def returned(message: Message, status: Status, channel_number: int) -> Message:
    """Mark a message of the application that the engine returns to it, with the reason."""
    message._proto |= ORIGIN_BIT
    message.status = status
    message.channel_number = channel_number
    return message


def snapshot(message: Message) -> Message:
    """Return a checked copy of the message as it is now. The copy has no permit.

    Raises:
        NullMessage: ``message`` is None.
        TypeError: ``message`` is something else, or an attribute has the wrong type.
        InvalidBodyLen, InvalidHeadersLen, InvalidMessage, InvalidMessageId: an attribute was set to
            a value that is not allowed.
    """
    if not isinstance(message, Message):
        raise null_message(message)
    own = Message(message.op_code, message.body, message.headers, message.message_id, message.more)
    own.channel_number = message.channel_number
    check_status(message.status)
    own.status = message.status
    return own


def null_message(given: object) -> NullMessage | TypeError:
    """The exception for a value that is not a message."""
    text = f"{given!r} is not a message: pass a Message"
    return NullMessage(text) if given is None else TypeError(text)


def check_status(status: object) -> None:
    """Refuse what is no status of a message.

    Raises:
        TypeError: it is no number that fits in a header.
    """
    if not isinstance(status, int) or not 0 <= status <= _MAX_STATUS:
        raise TypeError(
            "the status of a message must be a Status, for example Status.PROCESSING_FAILED, not "
            f"{status!r}"
        )


def checked_body(body: bytes | bytearray | memoryview) -> bytes:
    """Return the body as bytes.

    Raises:
        TypeError: the body is not bytes-like.
        InvalidBodyLen: the body is longer than 65,535 bytes.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(
            f"a body must be bytes, bytearray or memoryview, not {type(body).__name__}: "
            "encode it first, for example with text.encode()"
        )
    length = body.nbytes if isinstance(body, memoryview) else len(body)
    if length > MAX_PART:
        raise InvalidBodyLen(
            f"the body has {length} bytes, and a message may have at most {MAX_PART}: send a "
            "longer one with request() or reply(), or in parts with stream()"
        )
    return bytes(body)  # bytes are not copied

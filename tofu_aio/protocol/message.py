"""The message: binary header, text headers and body. It is the whole programming interface."""

from __future__ import annotations

import struct
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

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
"""The process-wide source of message ids. ``next`` on a count is atomic: any thread may ask."""


REJECTION: Final = pack_proto(OpCode.HELLO_RESPONSE, origin=Origin.ENGINE)
"""The proto byte of a HELLO_RESPONSE with a status. A client of the Zig library looks for a failure
among what comes from an engine, and takes a HELLO_RESPONSE of an application for a yes."""


class Message:
    """One message, to be sent or as it was received.

    A received message holds permits of the engine's pool, or its channel's reserve, until it is
    released: by ``release``, by leaving a ``with`` block, by being sent on, or by being
    garbage-collected. Reading of its channel may wait for that, so a message should not be kept
    longer than it is needed. The response to a ``request`` holds nothing, and neither does a copy
    or a pickle.

    Args:
        op_code: what the message does.
        body: at most 65,535 bytes; larger content goes in parts, see ``more``.
        headers: a mapping or (name, value) pairs, at most 65,535 bytes once encoded.
        message_id: ties a response, or the parts of one message, together. 0 lets the channel
            assign the next one.
        more: more parts follow under the same message id. Only for regular messages.

    Attributes:
        channel_number: the local number of the channel it came from, or is posted to; 0 when
            there is none yet.
        message_id: see above.
        status: SUCCESS, or why the message comes back or a request was refused.
        headers: the text headers.
        body: the content.

    Raises:
        InvalidOpCode: ``op_code`` is none of the ten.
        InvalidMoreUsage: ``more`` on a message that is not a regular one.
        InvalidMessageId: ``message_id`` does not fit in 64 unsigned bits.
        InvalidBodyLen: ``body`` is too long.
        InvalidHeadersLen: ``headers`` are too long.
        InvalidMessage: a header breaks a rule of the wire.
        TypeError: ``body`` is not bytes-like.
    """

    __slots__ = (
        "__weakref__",
        "_permit",
        "_proto",
        "body",
        "channel_number",
        "headers",
        "message_id",
        "status",
    )

    _permit: Permit | None  # what it gives back when it is released
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
            raise InvalidOpCode(f"{op_code!r} is not an op code: use an OpCode") from None
        if more and op_code.message_type is not MessageType.REGULAR:
            raise InvalidMoreUsage(f"{op_code.name} cannot have more parts: only regular ones can")
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
        """Who made it: an application, or the engine as a status notification."""
        return Origin.ENGINE if self._proto & ORIGIN_BIT else Origin.APPLICATION

    @property
    def more(self) -> bool:
        """Whether more parts follow under the same message id."""
        return bool(self._proto & MORE_BIT)

    @property
    def _wire_proto(self) -> int:
        """The proto byte as it is sent: from the application, but for a rejection."""
        proto = self._proto & PUBLIC_BITS & ~ORIGIN_BIT
        return REJECTION if proto == OpCode.HELLO_RESPONSE and self.status else proto

    def header_as(self, channel_number: int, message_id: int) -> BinaryHeader:
        """The header under which this message travels with the numbers that it got."""
        return BinaryHeader(
            channel_number,
            self._wire_proto,
            self.status,
            message_id,
            len(self.headers.encode()),
            len(self.body),
        )

    def encode(self) -> bytes:
        """The frame as it travels, with the numbers that the message has now.

        Raises:
            InvalidBodyLen, InvalidChannelNumber, InvalidMessageId: an attribute was set to what
                does not fit.
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
            if 0 <= self.message_id <= MAX_MESSAGE_ID:
                raise InvalidChannelNumber(
                    f"channel number {self.channel_number} does not fit in 16 unsigned bits"
                ) from None
            raise _unfit_id(self.message_id) from None
        return b"".join((header, headers, body))

    def release(self) -> None:
        """Give the permit back to the pool. Harmless when there is none (any more).

        Headers and body stay readable: they are the caller's own to keep or drop.
        """
        permit = self._take_permit()
        if permit is not None:
            permit.release()

    def __del__(self) -> None:
        try:
            permit = self._permit
        except AttributeError:  # it runs even for what __init__ refused
            return
        if permit is not None:
            permit.release()

    if FREE_THREADED:

        def _take_permit(self) -> Permit | None:
            """Take what it has to give back: once, however many threads do at the same time."""
            with ONE_AT_A_TIME:
                permit, self._permit = self._permit, None
            return permit

    else:

        def _take_permit(self) -> Permit | None:
            """Take what it has to give back: once, however many threads do at the same time."""
            permit, self._permit = self._permit, None  # the GIL changes hands at calls and loops
            return permit

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        # For copy and pickle. One permit was taken, so one comes back: the original's.
        names = set(Message.__slots__) - {"__weakref__", "_permit"}
        return None, {"_permit": None, **{name: getattr(self, name) for name in names}}

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
    return InvalidMessageId(f"message id {message_id} does not fit in 64 unsigned bits")


def notification(
    status: Status, channel_number: int = UNASSIGNED_CHANNEL, message_id: int = 0
) -> Message:
    """What the engine itself has to say to the application. It never travels."""
    message = Message(OpCode.SIGNAL, message_id=message_id)
    return returned(message, status, channel_number)


def returned(message: Message, status: Status, channel_number: int) -> Message:
    """Mark an application's own message that comes back: from the engine, with the reason."""
    message._proto |= ORIGIN_BIT
    message.status = status
    message.channel_number = channel_number
    return message


def snapshot(message: Message) -> Message:
    """The message as it is now, checked anew, as an object that nobody else has. It has no permit.

    Raises:
        NullMessage, TypeError: it is None, or something else that is no message.
        InvalidBodyLen, InvalidHeadersLen, InvalidMessage, InvalidMessageId, TypeError: an
            attribute was set to what does not fit.
    """
    if not isinstance(message, Message):
        raise null_message(message)
    own = Message(message.op_code, message.body, message.headers, message.message_id, message.more)
    own.channel_number = message.channel_number
    own.status = message.status
    return own


def null_message(given: object) -> NullMessage | TypeError:
    """For what stands where a message is needed."""
    text = f"{given!r} is no message: give a Message"
    return NullMessage(text) if given is None else TypeError(text)


def checked_body(body: bytes | bytearray | memoryview) -> bytes:
    """The body as bytes.

    Raises:
        TypeError: it is not bytes-like.
        InvalidBodyLen: it is longer than 65,535 bytes.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(
            f"a body is bytes, not {type(body).__name__}: encode it first, text.encode() say"
        )
    length = body.nbytes if isinstance(body, memoryview) else len(body)
    if length > MAX_PART:
        raise InvalidBodyLen(
            f"the body has {length} bytes and may have {MAX_PART}: send it in parts, "
            "with more=True on all but the last"
        )
    return bytes(body)  # no copy, if it is bytes

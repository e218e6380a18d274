"""Payloads: what is encoded with a codec, and what travels as it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, TypeGuard, TypeVar

import msgspec

from ..protocol.errors import InvalidMessage
from ..protocol.message import Message
from ..protocol.text_headers import TextHeaders
from .codec import BYTES, JSON, MSGPACK, Codec
from .errors import DEADLINE_EXCEEDED, INTERNAL, ServiceError
from .headers import CODE, CONTENT_TYPE, STREAM
from .signatures import is_protocol

T = TypeVar("T")

_OF_MSGSPEC: Final = (JSON, MSGPACK)

_ANYTHING: Final = (object, bytes, bytearray, memoryview, Message)

_BYTES: Final = (bytes, bytearray, memoryview)


class Codecs:
    """The codecs that one side knows, by content type.

    Args:
        own: encodes what has no other codec: the payloads of a client, and the results of calls
            that came without a payload.
    """

    def __init__(self, own: Codec) -> None:
        for name in ("content_type", "encode", "decode"):
            if not hasattr(own, name):
                raise TypeError(
                    f"codec is {own!r}, which has no {name!r}: use tofu.JSON, tofu.MSGPACK, or an "
                    "object with content_type, encode and decode"
                )
        self.own = own
        self._known = {codec.content_type: codec for codec in (JSON, MSGPACK, own)}
        self._headers = {codec: TextHeaders({CONTENT_TYPE: codec}) for codec in self._known}
        self._headers[BYTES] = TextHeaders({CONTENT_TYPE: BYTES})
        self._headers[""] = TextHeaders()
        self._alone = {headers.encode(): name for name, headers in self._headers.items()}

    def check_type(self, as_type: type, what: str) -> None:
        """Check that a payload or a result may have a type.

        What a codec of the program's own can do is not known here.

        Raises:
            TypeError: msgspec does not know it.
        """
        if self.own not in _OF_MSGSPEC or as_type in _ANYTHING or is_protocol(as_type):
            return
        reason = ""
        try:
            if isinstance(msgspec.inspect.type_info(as_type), msgspec.inspect.CustomType):
                reason = "which cannot be encoded"
            msgspec.json.Decoder(as_type)
        except TypeError as error:
            reason = f"which cannot be encoded: {error}"
        if reason:
            raise TypeError(
                f"{what} is annotated with {named(as_type)}, {reason}. Use a "
                "msgspec struct, a dataclass, a TypedDict or a plain type. A resource must be "
                "added before the handlers that ask for it"
            )

    def of(self, content_type: str) -> Codec:
        """The codec for a content type; the own one for bytes, or for none.

        Raises:
            ValueError: it is not known.
        """
        codec = self._known.get(content_type)
        if codec is not None:
            return codec
        if content_type in {"", BYTES}:
            return self.own
        # Parameters, as in "application/json; charset=utf-8", say nothing that matters here.
        codec = self._known.get(content_type.partition(";")[0].strip().lower())
        if codec is None:
            raise ValueError(
                f"the content type {content_type[:80]!r} is not known here: use one of "
                + ", ".join(self._known)
            )
        return codec

    def answering(self, asked: str) -> Codec:
        """The codec for the answer to a request; the own one if that of the request is unknown.

        A handler that takes bytes may be given some in any encoding.
        """
        try:
            return self.of(asked)
        except ValueError:
            return self.own

    def headers(self, content_type: str) -> TextHeaders:
        """The headers of a result with this content type."""
        return self._headers[content_type]

    def encode(self, codec: Codec, value: object) -> tuple[str, bytes]:
        """A payload's content type and bytes.

        ``None`` has neither, and bytes are not touched.

        Raises:
            TypeError: the codec cannot encode the value.
        """
        if value is None:
            return "", b""
        if isinstance(value, _BYTES):
            return BYTES, bytes(value)
        try:
            return codec.content_type, codec.encode(value)
        except TypeError as error:
            raise TypeError(f"{value!r:.80} cannot be encoded: {error}") from error

    def encode_result(self, asked: str, result: object) -> tuple[TextHeaders, bytes]:
        """The headers and the body of a result.

        Args:
            asked: the content type of the request.
            result: the result.

        Raises:
            TypeError: the codec cannot encode it.
        """
        if isinstance(result, Message):
            return result.headers, result.body
        codec = self._known.get(asked) or self.answering(asked)
        content_type, body = self.encode(codec, result)
        return self._headers[content_type], body

    def content_type(self, asked: str, item: type) -> str:
        """The content type of a stream of items.

        Args:
            asked: that of the request.
            item: the type of the items.

        Raises:
            ValueError: ``asked`` is not known.
        """
        return BYTES if item is bytes else self.of(asked).content_type

    def encode_item(self, content_type: str, item: object) -> bytes:
        """An item of a stream, all of which have one content type.

        Raises:
            TypeError: the codec cannot encode it.
        """
        if content_type != BYTES:
            return self.of(content_type).encode(item)
        if is_bytes(item):
            return bytes(item)
        raise TypeError(f"an item of a stream of bytes is {type(item).__name__}: give bytes")

    def decode(self, content_type: str, body: bytes, as_type: type[T]) -> T:
        """A payload as a type.

        Raises:
            ValueError: it cannot be decoded, or has another type. The text names the field.
        """
        codec = self._known.get(content_type)
        if codec is not None and as_type is not bytes:
            return codec.decode(body, as_type)
        if as_type is bytes:
            return body  # type: ignore[return-value]
        if not content_type and not body:
            return _as_it_is(None, as_type, "the payload is empty")
        if content_type == BYTES:
            return _as_it_is(body, as_type, f"the payload is {BYTES}, and not {named(as_type)}")
        return self.of(content_type).decode(body, as_type)

    def result(self, name: str, headers: TextHeaders, body: bytes, as_type: type[T]) -> T:
        """The result of a call.

        Raises:
            InvalidMessage: it has another type. The text names the field.
            TypeError: it is a stream.
        """
        content_type = self._alone.get(headers.encode())  # most results have no other header
        if content_type is None:
            if STREAM in headers:
                raise TypeError(f"{name!r} streams its result: use client.stream()")
            content_type = headers.get(CONTENT_TYPE, "")
        try:
            return self.decode(content_type, body, as_type)
        except ValueError as error:
            raise undecodable(name, error) from error

    def error(self, response: Message | None, text: str) -> ServiceError | TimeoutError:
        """The error of a call that failed.

        Args:
            response: says why; None if the peer has only broken off.
            text: for an error that has none of its own.
        """
        if response is None:
            error = ServiceError(INTERNAL, text)
            error.received = True
            return error
        code = response.headers.get(CODE) or response.status.name.lower()
        details: object = None
        text = _text(response.body) or text
        content_type = response.headers.get(CONTENT_TYPE, "")
        if content_type:
            with suppress(Exception):  # of any codec: the peer's error is what matters
                told = self.of(content_type).decode(response.body, dict[str, object])
                text, details = str(told.get("text", "")), told.get("details")
        if code == DEADLINE_EXCEEDED:
            return TimeoutError(text)
        try:
            error = ServiceError(code, text, details)
        except ValueError:
            error = ServiceError(INTERNAL, text, details)
        error.status = response.status
        error.received = True
        return error


def _as_it_is(value: bytes | None, as_type: type[T], otherwise: str) -> T:
    """What no codec has touched, if the type allows it: ``bytes | None`` does."""
    if as_type is object:
        return value  # type: ignore[return-value]
    try:
        return msgspec.convert(value, as_type)
    except msgspec.ValidationError:
        raise ValueError(otherwise) from None


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def undecodable(name: str, error: ValueError) -> InvalidMessage:
    """The error of a result, or of an item of one, that cannot be decoded."""
    return InvalidMessage(f"the result of {name!r} cannot be decoded: {error}")


def is_bytes(value: object) -> TypeGuard[bytes | bytearray | memoryview]:
    """Whether a value is sent as it is."""
    return isinstance(value, _BYTES)


def named(as_type: object) -> str:
    """A type as it is written in a program."""
    return as_type.__name__ if isinstance(as_type, type) else str(as_type)

"""How payloads are encoded: JSON, MessagePack, or a codec of the program's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class Codec(Protocol):
    """Encodes payloads. ``JSON`` and ``MSGPACK`` are codecs; any object with these members is.

    Attributes:
        content_type: the name of the encoding, which travels with each payload.
    """

    @property
    def content_type(self) -> str:
        """The name of the encoding, which travels with each payload."""

    def encode(self, value: object, /) -> bytes:
        """Encode a value.

        Raises:
            Exception: it cannot be encoded.
        """

    def decode(self, body: bytes, as_type: type[T], /) -> T:
        """Decode a payload and check that it has a type.

        Raises:
            ValueError: it has not. The text names the field and is shown to the sender.
        """


class _MsgspecCodec:
    """A codec of msgspec, which knows its structs, dataclasses, TypedDicts and plain types."""

    def __init__(
        self,
        content_type: str,
        encode: Callable[[object], bytes],
        new_decoder: Callable[[type], Callable[[bytes], object]],
    ) -> None:
        self.content_type = content_type
        self.encode = encode
        self._new_decoder = new_decoder
        self._decoders: dict[type, Callable[[bytes], object]] = {}

    def decode(self, body: bytes, as_type: type[T], /) -> T:
        decode = self._decoders.get(as_type)
        if decode is None:
            decode = self._decoders[as_type] = self._new_decoder(as_type)
        try:
            return decode(body)  # type: ignore[return-value]
        except RecursionError:
            raise ValueError("the payload is nested too deeply") from None

    def __repr__(self) -> str:
        return f"<Codec {self.content_type}>"


JSON: Final[Codec] = _MsgspecCodec(
    "application/json",
    msgspec.json.Encoder().encode,
    lambda as_type: msgspec.json.Decoder(as_type).decode,
)
"""JSON: text that every language reads. The default."""

MSGPACK: Final[Codec] = _MsgspecCodec(
    "application/msgpack",
    msgspec.msgpack.Encoder().encode,
    lambda as_type: msgspec.msgpack.Decoder(as_type).decode,
)
"""MessagePack: smaller than JSON, and has bytes."""

BYTES: Final = "application/octet-stream"
"""The content type of bytes, which no codec touches."""

r"""The text headers of a frame: any number of ``name:value\r\n``, in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

from .binary_header import MAX_PART
from .errors import InvalidHeadersLen, InvalidMessage

BLANKS: Final = " \t"

CONNECT_TO: Final = "~connect_to"
"""On a HELLO_REQUEST: the address of the listener, in the form of ``address.to_header()``."""
LISTEN_ON: Final = "~listen_on"
"""On a WELCOME_REQUEST: the address to listen on. On its answer: the actual address."""
EOF: Final = "~eof"
"""On a Bye: its sender still receives. Answer it only after everything else has been sent."""
HEARTBEAT: Final = "~heartbeat"
"""On a Hello: its sender understands heartbeats. It expects at least one in each interval of this
many milliseconds, a whole number."""
SUPPORTS: Final = "~supports"
"""On a Hello or its answer: what its sender supports beyond the Zig library's protocol. These are
lower-case tokens separated by commas; unknown ones are ignored."""

WHOLE: Final = "~whole"
"""On the first part of a request that is sent in parts only because it is long: its size in bytes.
The receiver joins the parts. Sent only to a peer that supports this."""

_LINES: Final = re.compile(
    # Nothing is tried twice, so the time is linear, whatever a peer sends: quantifiers are
    # possessive, and repeated groups are in atomic ones, because before Python 3.11.5 possessive
    # repeats of groups match wrongly (CPython issues 100061 and 106052). A line ends at its first
    # CR LF, as in the Zig library. A CR or LF alone is part of the value.
    rb"(?>(?:[ \t]*+[^ \t:\r\n][^:\r\n]*+:[^\r]*+(?>(?:\r++[^\r\n][^\r]*+)*)\r++\n)*)"
)


class TextHeaders(Mapping[str, str]):
    """An immutable, ordered list of (name, value) pairs that reads like a mapping.

    A name may occur more than once: ``headers[name]`` is its first value, ``get_all`` returns all
    of them, and ``pairs`` keeps everything in order. Names are case-sensitive. The protocol does
    not define an encoding. Here text is UTF-8, and other bytes become surrogate escapes (PEP 383),
    so received headers can be sent on unchanged.

    Received headers are checked at once, but kept as bytes and parsed only when they are read: as
    pairs they would need up to twenty times the memory that the pool's bound counts. The result is
    cached for the headers that were read last, because programs read one header after another.

    The Zig library writes any bytes into a value. So a received value may be empty or contain a CR
    or an LF, but never CR LF, which ends it. Such headers can be sent on unchanged, but cannot be
    made from pairs.

    Args:
        pairs: a mapping, or pairs of name and value. A value may be empty. Blanks around names are
            removed, as the Zig library does when it writes them; names and values are also
            trimmed when they are read.

    Raises:
        InvalidMessage: a name is empty, or a name or value has a character that would make it look
            like another header: CR or LF, or ``:`` in a name.
        InvalidHeadersLen: the headers have more than 65,535 bytes when encoded.
        TypeError: the argument is not pairs, or not of str.
    """

    __slots__ = ("_encoded",)

    _encoded: bytes

    def __init__(self, pairs: HeadersLike = ()) -> None:
        if isinstance(pairs, TextHeaders):
            self._encoded = pairs._encoded
            return
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        try:
            listed = [(name, value) for name, value in items]
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"headers must be a mapping or pairs of name and value, not {items!r:.80}: "
                'pass {"Name": "value"}, for example'
            ) from error
        checked = (_checked(name, value) for name, value in listed)
        text = "".join(f"{name}:{value}\r\n" for name, value in checked)
        try:
            self._encoded = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"the text headers cannot be encoded: {error}") from None
        if len(self._encoded) > MAX_PART:
            raise InvalidHeadersLen(
                f"the text headers have {len(self._encoded)} bytes, and a message may have at most "
                f"{MAX_PART}: move the large value into the body"
            )

    @classmethod
    def decode(cls, data: bytes) -> TextHeaders:
        """Read the text headers of a frame, the bytes between the binary header and the body.

        Raises:
            InvalidMessage: a line has no name, no colon, or no CR LF at its end.
        """
        lines = _LINES.match(data)
        assert lines is not None  # the pattern matches even if there are no lines
        if lines.end() < len(data):
            line, end, _ = data[lines.end() :].partition(b"\r\n")
            shown = line[:60].decode("utf-8", "surrogateescape")
            rule = "it must have the form name:value" if end else "it must end in CR LF"
            raise InvalidMessage(f"{shown!r} is not a text header: {rule}")
        self = cls.__new__(cls)
        self._encoded = data
        return self

    def encode(self) -> bytes:
        """The headers as they are sent, at most 65,535 bytes."""
        return self._encoded

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All names with their values, in order."""
        return _taken_apart(self._encoded)[0]

    def get_all(self, name: str) -> list[str]:
        """All values of this name, in order; empty if there are none."""
        return [value for key, value in self.pairs if key == name]

    def __getitem__(self, name: str) -> str:
        return self._mapping()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping())

    def __len__(self) -> int:
        return len(self._mapping())

    def __bool__(self) -> bool:
        return bool(self._encoded)

    def __eq__(self, other: object) -> bool:
        """Equal to headers with the same pairs in the same order, and to an equal mapping."""
        if isinstance(other, TextHeaders):
            return self.pairs == other.pairs
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.pairs)

    def __repr__(self) -> str:
        return f"TextHeaders({list(self.pairs)!r})"

    def _mapping(self) -> Mapping[str, str]:
        """The first value of each name."""
        return _taken_apart(self._encoded)[1]


def encoded(headers: HeadersLike | None) -> bytes:
    """The bytes of headers as they are sent.

    Raises:
        InvalidMessage, InvalidHeadersLen, TypeError: as ``TextHeaders``.
    """
    if type(headers) is TextHeaders:
        return headers._encoded
    return TextHeaders(headers).encode() if headers else b""


def decoded(data: bytes) -> TextHeaders:
    """What ``TextHeaders.decode`` returns. Short headers are remembered.

    A peer sends the same few headers with message after message, and checking them takes longer
    than the rest of a short message.

    Raises:
        InvalidMessage: as ``TextHeaders.decode``.
    """
    return _remembered(data) if len(data) <= _SHORT else TextHeaders.decode(data)


_SHORT: Final = 128
"""Bytes of headers that are remembered."""

_remembered: Final = lru_cache(maxsize=256)(TextHeaders.decode)


HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""What may be passed wherever headers are expected."""


def _checked(name: object, value: object) -> tuple[str, str]:
    if not (isinstance(name, str) and isinstance(value, str)):
        part, wrong = ("value", value) if isinstance(name, str) else ("name", name)
        raise TypeError(
            f"the header {name!r}: {value!r} has a {part} of type {type(wrong).__name__}: names "
            "and values must be str, so convert it first"
        )
    name = name.strip(BLANKS)
    if not name:
        raise InvalidMessage(f"the header {name!r}: {value!r} has an empty name: give it one")
    if ":" in name or not {"\r", "\n"}.isdisjoint(name + value):
        raise InvalidMessage(
            f"the header {name!r}: {value!r} must not contain CR or LF, nor ':' in its name: put "
            "such a value into the body"
        )
    return name, value


def _parsed(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(BLANKS), value.strip(BLANKS)


def _taken_apart(encoded: bytes) -> tuple[tuple[tuple[str, str], ...], Mapping[str, str]]:
    """The pairs, and the first value of each name.

    The result is cached, because otherwise a peer that sends thousands of names would make
    ``dict(headers)`` quadratic. Of long headers only a few are, because the largest need 1.4 MB.
    """
    return _short_apart(encoded) if len(encoded) <= _SHORT else _long_apart(encoded)


def _split(encoded: bytes) -> tuple[tuple[tuple[str, str], ...], Mapping[str, str]]:
    *lines, _ = encoded.decode("utf-8", "surrogateescape").split("\r\n")
    pairs = tuple(_parsed(line) for line in lines)
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name, value)
    return pairs, MappingProxyType(first)


_short_apart: Final = lru_cache(maxsize=256)(_split)
_long_apart: Final = lru_cache(maxsize=4)(_split)

EMPTY_HEADERS: Final = TextHeaders()

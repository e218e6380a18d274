r"""The text part of a frame: ``name:value\r\n``, in order, as often as the sender likes."""

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
"""On a HELLO_REQUEST: the listener's address, as ``address.to_header()`` has it."""
LISTEN_ON: Final = "~listen_on"
"""On a WELCOME_REQUEST: where to listen; on its answer: where that is, the port being known."""
EOF: Final = "~eof"
"""On a Bye: its sender still listens, so it should be answered only after all has been sent."""
HEARTBEAT: Final = "~heartbeat"
"""On a Hello: its sender understands heartbeats and wants one at least every so many ms, a whole
number."""
SUPPORTS: Final = "~supports"
"""On a Hello or its answer: what its sender can do beyond the Zig library's protocol, as lower-case
tokens with commas between them. Who does not know a token ignores it."""

WHOLE: Final = "~whole"
"""On the first part of a request: it came in parts only because it is long, so many bytes, and its
receiver is to put it together. Only to a peer that has said that it does."""

_LINES: Final = re.compile(
    # Possessive throughout: each byte is looked at once, whatever a peer sends. A line ends at its
    # first CR LF, as for the Zig library's reader, so a CR or LF alone is part of the value.
    rb"(?:[ \t]*+[^ \t:\r\n][^:\r\n]*+:[^\r]*+(?:\r(?!\n)[^\r]*+)*+\r\n)*+"
)


class TextHeaders(Mapping[str, str]):
    """An immutable, ordered list of (name, value) pairs that reads like a mapping.

    A name may stand more than once: ``headers[name]`` is the first value, ``get_all`` gives them
    all, ``pairs`` keeps everything in order. Names are compared as they are, case and all.
    The wire does not define an encoding; text is UTF-8, and bytes that are not travel unharmed as
    surrogate escapes (PEP 383), so that what was received can be sent on as it came.

    What was received is judged at once but taken apart only when it is asked for, and kept as it
    came: as pairs it would need up to twenty times the memory that the pool's bound counts. The
    pairs of the headers that were looked at last are remembered, for programs ask for one after
    another.

    The Zig library's writer puts any bytes into a value, so a received value may be empty, or have
    a CR or an LF in it (never CR LF, which ends it). Sent on as it came it arrives as it was;
    what is made here from pairs cannot have them.

    Args:
        pairs: a mapping, or pairs of name and value; a value may be empty. Names are trimmed of
            blanks, as the Zig library's writer does; the reader trims both.

    Raises:
        InvalidMessage: a name is empty, or a name or value has a character that would let it pose
            as another header: CR or LF, or ``:`` in a name.
        InvalidHeadersLen: all together are longer than 65,535 bytes.
        TypeError: these are no pairs, or not of text.
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
                f"headers are a mapping or pairs of name and value, not {items!r:.80}: "
                'give {"Name": "value"}, say'
            ) from error
        checked = (_checked(name, value) for name, value in listed)
        text = "".join(f"{name}:{value}\r\n" for name, value in checked)
        try:
            self._encoded = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InvalidMessage(f"the text headers cannot be encoded: {error}") from None
        if len(self._encoded) > MAX_PART:
            raise InvalidHeadersLen(
                f"the text headers have {len(self._encoded)} bytes and may have {MAX_PART}: "
                "move the large value into the body"
            )

    @classmethod
    def decode(cls, data: bytes) -> TextHeaders:
        """Read the text part of a frame, as it stands between header and body.

        Raises:
            InvalidMessage: a line has no name, no colon, or no CR LF at its end.
        """
        lines = _LINES.match(data)
        assert lines is not None  # no line at all matches too
        if lines.end() < len(data):
            line, end, _ = data[lines.end() :].partition(b"\r\n")
            shown = line[:60].decode("utf-8", "surrogateescape")
            rule = "it should read name:value" if end else "it should end in CR LF"
            raise InvalidMessage(f"{shown!r} is not a text header: {rule}")
        self = cls.__new__(cls)
        self._encoded = data
        return self

    def encode(self) -> bytes:
        """The bytes of the wire, at most 65,535."""
        return self._encoded

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every name with its value, in order."""
        return _taken_apart(self._encoded)[0]

    def get_all(self, name: str) -> list[str]:
        """Every value under this name, in order; empty if there is none."""
        return [value for key, value in self.pairs if key == name]

    def __getitem__(self, name: str) -> str:
        return self._mapping()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping())

    def __len__(self) -> int:
        return len(self._mapping())

    def __eq__(self, other: object) -> bool:
        """Equal to other headers with the same pairs in order, and to an equal mapping."""
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


HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""What is accepted wherever headers are given."""


def _checked(name: object, value: object) -> tuple[str, str]:
    if not (isinstance(name, str) and isinstance(value, str)):
        raise TypeError(f"header {name!r}: {value!r} needs a str on both sides")
    name = name.strip(BLANKS)
    if not name:
        raise InvalidMessage(f"header {name!r}: {value!r} needs a name")
    if ":" in name or not {"\r", "\n"}.isdisjoint(name + value):
        raise InvalidMessage(
            f"header {name!r}: {value!r} may not contain CR or LF, nor ':' in its name"
        )
    return name, value


def _parsed(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(BLANKS), value.strip(BLANKS)


@lru_cache(maxsize=4)
def _taken_apart(encoded: bytes) -> tuple[tuple[tuple[str, str], ...], Mapping[str, str]]:
    """The pairs, and the first value of each name.

    Remembered, or a peer with thousands of names would make ``dict(headers)`` quadratic; and of a
    few only, for of the largest headers they take 1.4 MB.
    """
    *lines, _ = encoded.decode("utf-8", "surrogateescape").split("\r\n")
    pairs = tuple(_parsed(line) for line in lines)
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name, value)
    return pairs, MappingProxyType(first)


EMPTY_HEADERS: Final = TextHeaders()

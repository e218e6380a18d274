"""Bytes written as hexadecimal digits."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from typing import Final

from .errors import Failure

_BETWEEN: Final = b" \t\r\n\v\f:"
_DIGITS: Final = string.hexdigits.encode()
_FOREIGN: Final = re.compile(rb"[^0-9A-Fa-f]")


def looks_like_hex(start: bytes) -> bool:
    """Whether some data begins as hexadecimal text rather than as frames.

    Args:
        start: the first 16 bytes, or all there are. In a frame they hold its message id, which
            would have to be a number of eighteen digits to pass for text.
    """
    return bool(start) and not start.translate(None, _BETWEEN + _DIGITS)


def from_hex(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes that the text means, however it is cut into pieces.

    Raises:
        Failure: a character is neither a digit nor a blank nor a colon, or a digit is alone. What
            stands before it has been given.
    """
    digits, done = b"", 0
    for piece in pieces:
        digits += piece.translate(None, _BETWEEN)
        foreign = _FOREIGN.search(digits)
        whole = (len(digits) if foreign is None else foreign.start()) & ~1
        yield bytes.fromhex(digits[:whole].decode("ascii"))
        done += whole // 2
        if foreign is not None:
            raise Failure(f"at byte {done}: {foreign[0].decode('latin-1')!r} is not a hex digit")
        digits = digits[whole:]
    if digits:
        raise Failure(f"at byte {done}: the second hex digit is missing")

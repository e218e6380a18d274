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
    """Return whether data is hexadecimal text rather than raw frames.

    Args:
        start: the first 16 bytes of the data, or all if there are fewer. In a raw frame they hold
            the message id, which would need eighteen decimal digits to look like text.
    """
    return bool(start) and not start.translate(None, _BETWEEN + _DIGITS)


def from_hex(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Convert hexadecimal text to bytes. The text may be split into pieces anywhere.

    Raises:
        Failure: a character is not a hexadecimal digit, white space or a colon, or the number of
            digits is odd. The bytes before the error have been yielded.
    """
    digits, done = b"", 0
    for piece in pieces:
        digits += piece.translate(None, _BETWEEN)
        foreign = _FOREIGN.search(digits)
        whole = (len(digits) if foreign is None else foreign.start()) & ~1
        yield bytes.fromhex(digits[:whole].decode("ascii"))
        done += whole // 2
        if foreign is not None:
            raise Failure(
                f"at byte {done}: {foreign[0].decode('latin-1')!r} is not a hexadecimal digit"
            )
        digits = digits[whole:]
    if digits:
        raise Failure(f"at byte {done}: the second hexadecimal digit is missing")

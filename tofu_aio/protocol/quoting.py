"""Quoting text from a peer, in exceptions, in the log and on a terminal."""

from __future__ import annotations

from typing import Final

QUOTED: Final = 200
"""Characters of a peer's text that are shown at most."""


def quoted(words: bytes | str) -> str:
    """Return text from a peer on one line, printable and short.

    Control characters, line ends and characters that change the direction of text are escaped as in
    Python literals, so that a peer can neither forge lines of a log nor control a terminal. After
    ``QUOTED`` characters the rest is left out, and the total number of characters is given.
    """
    text = words if isinstance(words, str) else words.decode("utf-8", "backslashreplace")
    shown = "".join(map(_printable, text[:QUOTED]))
    if len(shown) <= QUOTED and len(text) <= QUOTED:
        return shown
    return f"{shown[:QUOTED]}… ({len(text):,} characters)"


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")

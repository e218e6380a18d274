"""How a peer's words stand in our texts: in exceptions, in the log, on a terminal."""

from __future__ import annotations

from typing import Final

QUOTED: Final = 200
"""Characters of a peer's words that a text of ours has room for."""


def quoted(words: bytes | str) -> str:
    """Return a peer's words on one line, printable and short.

    Control characters, line ends and what changes the direction of text are escaped as Python's
    literals have them, so that a peer cannot forge lines of a log or command a terminal. After
    ``QUOTED`` characters the rest is left out, and the text says how many there were.
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

"""A peer's words in our texts: one line, printable, short."""

from __future__ import annotations

import pytest

from tofu_aio.protocol.quoting import QUOTED, quoted


@pytest.mark.parametrize("words", ["no room for it", "wer da? \N{OWL}", "", "a" * QUOTED])
def test_ordinary_words_stay_as_they_are(words: str) -> None:
    assert quoted(words) == words
    assert quoted(words.encode()) == words


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (b"no\nERROR root: all is lost\r\n", r"no\nERROR root: all is lost\r\n"),
        (b"\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        (b"\xff\xfe nonsense", r"\xff\xfe nonsense"),
        ("user\N{RIGHT-TO-LEFT OVERRIDE}nimda".encode(), r"user\u202enimda"),
        ("line\N{LINE SEPARATOR}line", r"line\u2028line"),
        ("half \udc80", r"half \udc80"),
        (b"nothing\x00", r"nothing\x00"),
    ],
)
def test_what_could_forge_a_line_or_command_a_terminal_is_escaped(
    words: bytes | str, shown: str
) -> None:
    assert quoted(words) == shown


@pytest.mark.parametrize("words", [b"a" * 60_000, b"\x00" * 60_000, b"a" * (QUOTED + 1)])
def test_long_words_are_cut_and_the_text_says_so(words: bytes) -> None:
    text = quoted(words)
    assert text.endswith(f"… ({len(words):,} characters)")
    assert len(text) < QUOTED + 30


def test_what_becomes_long_by_escaping_is_cut_too() -> None:
    assert quoted(b"\x00" * QUOTED).endswith(f"\\x00… ({QUOTED} characters)")

"""Hexadecimal text, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofu_aio.cli.errors import Failure
from tofu_aio.cli.hexadecimal import from_hex, looks_like_hex


@given(data=st.binary(), between=st.text(" \t\r\n:", max_size=3), cut=st.integers(1, 9))
def test_any_cut_gives_the_same_bytes(data: bytes, between: str, cut: int) -> None:
    text = between.join(data.hex()).encode()
    pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
    assert b"".join(from_hex(pieces)) == data


def test_the_bytes_before_a_wrong_character_are_yielded() -> None:
    given = []
    with pytest.raises(Failure, match="at byte 3: 'g' is not a hexadecimal digit"):
        given.extend(from_hex([b"00 1", b"1 22 3g 44"]))
    assert b"".join(given) == b"\x00\x11\x22"


def test_half_a_byte() -> None:
    with pytest.raises(Failure, match="at byte 1: the second hexadecimal digit is missing"):
        list(from_hex([b"00 1"]))


@pytest.mark.parametrize(
    ("start", "hexadecimal"),
    [
        (b"0007 0000 0000000", True),
        (b"\n  AB:cd", True),
        (b"", False),
        (b"\x00\x07\x00\x00\0\0\0\0\0\0\0\1\0\0\0\0", False),
        (b"GET / HTTP/1.1\r\n", False),
    ],
)
def test_hexadecimal_text_is_detected(start: bytes, hexadecimal: bool) -> None:
    assert looks_like_hex(start) is hexadecimal

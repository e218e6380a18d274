"""The token that says what a chunk is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofu_aio.transport.nats.chunk import Chunk, split

chunks = st.builds(
    Chunk, st.sampled_from("oandcexrp"), st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1)
)


@given(chunks)
def test_a_chunk_comes_back_from_its_token(chunk: Chunk) -> None:
    assert split(f"_INBOX.x.1.{chunk.tail()}") == ("_INBOX.x.1", chunk)


@pytest.mark.parametrize(
    "reply", ["", "d1", ".d1", "x.", "x.d", "x.z1", "x.d-1", "x.d1-", "x.d1-2-3", "x.d٣", "x.d1\n"]
)
def test_what_is_no_chunk(reply: str) -> None:
    assert split(reply) is None


@given(st.text(max_size=30))
def test_any_text_is_a_chunk_or_none(text: str) -> None:
    found = split(text)
    assert found is None or found[0]


@pytest.mark.parametrize(
    "inbox", ["a" * 257, ".", "..", "a..b", ".a", "a.", "a.>", "*.a", "a b", "a\x0bb", "ä", "a\x7f"]
)
@pytest.mark.parametrize("tail", ["d1", "o0-16384"])
def test_an_inbox_that_nobody_can_publish_to_is_refused(inbox: str, tail: str) -> None:
    assert split(f"{inbox}.{tail}") is None


def test_any_other_inbox_is_taken() -> None:
    for inbox in ("a" * 256, "_INBOX.x-1.$SYS", "!)+,-/:=?@~"):
        assert split(f"{inbox}.d1") == (inbox, Chunk("d", 1))


def test_a_token_of_any_length_is_refused() -> None:
    assert split("x.d" + "9" * 5000) is None

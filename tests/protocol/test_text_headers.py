"""The text part of a frame: what is written, what is read, and that neither can be abused."""

from __future__ import annotations

import contextlib
import copy
import pickle
import sys
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.growth import growth
from tofu_aio.protocol.binary_header import MAX_PART
from tofu_aio.protocol.errors import InvalidHeadersLen, InvalidMessage
from tofu_aio.protocol.text_headers import EMPTY_HEADERS, TextHeaders

BLANKS = " \t"
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)
names = texts.map(lambda text: text.replace(":", "")).filter(lambda text: text.strip(BLANKS))


@given(st.lists(st.tuples(names, texts), max_size=6))
def test_what_one_side_writes_the_other_reads(pairs: list[tuple[str, str]]) -> None:
    written = TextHeaders(pairs)
    read = TextHeaders.decode(written.encode())
    assert read.pairs == tuple((name.strip(BLANKS), value.strip(BLANKS)) for name, value in pairs)
    assert read.encode() == written.encode()


def test_the_writer_trims_names_and_the_reader_both_as_the_zig_library_does() -> None:
    written = TextHeaders([(" \tJob-ID\t ", " 12:34 ")])
    assert written.encode() == b"Job-ID: 12:34 \r\n"
    assert written.pairs == (("Job-ID", "12:34"),), "as its reader will see it"
    assert TextHeaders.decode(b" \tJob-ID\t :\t 12:34 \r\n").pairs == (("Job-ID", "12:34"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "v"),
        (" \t", "v"),
        ("", ""),
        ("n:m", "v"),
        ("n\r\nInjected", "v"),
        ("n", "v\r\nInjected:yes"),
        ("n", "v\n"),
        ("n", "\rv"),
        ("n\n", "v"),
        ("n", "\ud80d"),  # a surrogate that stands for no byte
    ],
)
def test_no_header_can_pose_as_another(name: str, value: str) -> None:
    with pytest.raises(InvalidMessage, match="header"):
        TextHeaders([(name, value)])


@pytest.mark.parametrize("pair", [(b"n", "v"), ("n", 7), (None, "v")])
def test_other_types_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(
        TypeError, match=r"has a (name|value) of type .*must be str, so convert it first"
    ):
        TextHeaders([pair])


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"n", "must end in CR LF"),
        (b"n:v", "must end in CR LF"),
        (b"n:v\r", "must end in CR LF"),
        (b"a:b\r\nn:v\n", "must end in CR LF"),
        (b"\r\n", "name:value"),
        (b"n\r\n", "name:value"),
        (b"a:b\r\n:v\r\nc:d\r\n", "':v'"),
        (b" \t:v\r\n", "name:value"),
        (b"n:v\r\n\r\nm:w\r\n", "'' is not"),
        (b"n:v\nm:w\r\nx\r\n", "'x' is not"),
        (b"n:v\rm:w", "must end in CR LF"),
        (b"n\r:v\r\n", "name:value"),
        (b"n\n:v\r\n", "name:value"),
        (b"\xff\r\n", r"udcff"),
        pytest.param(b"x" * 65535, "x{60}'", id="long"),  # Windows allows no longer names
    ],
)
def test_a_malformed_line_is_refused_and_shown(data: bytes, cause: str) -> None:
    with pytest.raises(InvalidMessage, match=cause) as caught:
        TextHeaders.decode(data)
    str(caught.value).encode()  # printable whatever the peer sent


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"n:\r\n", ""),
        (b"n: \t\r\n", ""),
        (b"n:v\nm:w\r\n", "v\nm:w"),
        (b"n:\rv\r\n", "\rv"),
        (b"n: v\r \r\n", "v\r"),
        (b"n:v\r\r\n", "v\r"),
        (b"n:\r\r\r\n", "\r\r"),
        (b"n:\n\r\n", "\n"),
        (b"n::\r\n", ":"),
    ],
)
def test_a_value_that_only_the_zig_library_writes_is_read(data: bytes, value: str) -> None:
    headers = TextHeaders.decode(b"a:b\r\n" + data + b"c:d\r\n")
    assert headers.pairs == (("a", "b"), ("n", value), ("c", "d"))
    assert TextHeaders(headers).encode() == headers.encode(), "it can be sent on as it came"


@pytest.mark.parametrize("value", ["", " \t"])
def test_an_empty_value_can_be_written(value: str) -> None:
    written = TextHeaders({"n": value})
    assert written.encode() == f"n:{value}\r\n".encode()
    assert TextHeaders.decode(written.encode()).pairs == (("n", ""),)


@pytest.mark.parametrize("data", [b"n:v\nm:w\r\n", b"n:\rv\r\n"])
def test_what_only_others_write_is_not_made_here(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match="must not contain CR or LF"):
        TextHeaders(TextHeaders.decode(data).pairs)


def plainly_valid(data: bytes) -> bool:
    *lines, end = data.split(b"\r\n")
    parts = [line.partition(b":") for line in lines]
    return not end and all(
        colon and name.strip(b" \t") and not {10, 13} & {*name} for name, colon, _ in parts
    )


pieces = st.sampled_from([b":", b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"b:c\r\n", b"\xff"])


@given(st.lists(pieces, max_size=12).map(b"".join) | st.binary(max_size=40))
@example(b"")
def test_bytes_are_headers_exactly_if_every_line_is_one(data: bytes) -> None:
    if not plainly_valid(data):
        with pytest.raises(InvalidMessage):
            TextHeaders.decode(data)
        return
    headers = TextHeaders.decode(data)
    assert headers.encode() == data
    assert len(headers.pairs) == data.count(b"\r\n")
    assert all(name for name, _ in headers.pairs)
    assert not any("\r\n" in value for _, value in headers.pairs)


@given(st.binary(min_size=1, max_size=30).filter(lambda b: not set(b" \t\r\n") & set(b)))
def test_bytes_that_are_not_utf_8_survive(value: bytes) -> None:
    headers = TextHeaders.decode(b"n:" + value + b"\r\n")
    assert TextHeaders(headers.pairs).encode() == headers.encode()


@pytest.mark.parametrize("letter", ["x", "é"])
def test_together_they_may_have_65535_bytes(letter: str) -> None:
    size = len(letter.encode())
    room = MAX_PART - len("n:\r\n")
    fits = letter * (room // size) + "x" * (room % size)
    assert len(TextHeaders({"n": fits}).encode()) == MAX_PART
    with pytest.raises(
        InvalidHeadersLen, match=r"65536 bytes, and a message may have at most 65535.*body"
    ):
        TextHeaders({"n": fits + "x"})


@pytest.mark.parametrize("read", [False, True])
def test_they_read_like_a_mapping_of_first_values(read: bool) -> None:
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("B", "4")]
    headers = TextHeaders(pairs)
    if read:
        headers = TextHeaders.decode(headers.encode())
    assert headers.pairs == tuple(pairs)
    assert dict(headers) == {"b": "1", "a": "2", "B": "4"}
    assert list(headers) == ["b", "a", "B"]
    assert len(headers) == 3
    assert headers["b"] == "1"
    assert headers.get("c") is None
    assert "a" in headers
    assert "A" not in headers
    assert headers.get_all("b") == ["1", "3"]
    assert headers.get_all("c") == []
    with pytest.raises(KeyError):
        headers["c"]


def test_they_are_equal_if_their_pairs_are_in_order() -> None:
    headers = TextHeaders([("a", "1"), ("b", "2")])
    assert headers == TextHeaders({"a": "1", "b": "2"}) == TextHeaders(headers)
    assert hash(headers) == hash(TextHeaders.decode(headers.encode()))
    assert headers == {"b": "2", "a": "1"}
    assert headers != TextHeaders([("b", "2"), ("a", "1")])
    assert headers != TextHeaders([("a", "1"), ("b", "2"), ("b", "2")])
    assert headers != {"a": "1"}
    assert headers != "a:1"


def test_none_at_all() -> None:
    assert EMPTY_HEADERS.encode() == b""
    assert EMPTY_HEADERS.pairs == ()
    assert not EMPTY_HEADERS
    assert EMPTY_HEADERS == {} == TextHeaders.decode(b"")


def test_their_repr_makes_them_again() -> None:
    headers = TextHeaders([("a", "1"), ("a", "2")])
    assert eval(repr(headers)) == headers


@pytest.mark.parametrize("read", [False, True])
def test_they_copy_and_pickle(read: bool) -> None:
    headers = TextHeaders({"a": "1"})
    if read:
        headers = TextHeaders.decode(headers.encode())
    for twin in (copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers))):
        assert twin == headers
        assert twin.encode() == headers.encode()


def test_what_was_looked_at_is_kept_as_it_came() -> None:
    # The pool counts bytes: pairs of them would be twenty times as large.
    kept = [TextHeaders.decode(b"%d:b\r\n" % n + b"a:b\r\n" * 13_000) for n in range(30)]
    dict(kept[0])  # what is loaded once
    tracemalloc.start()
    for n, headers in enumerate(kept):
        assert headers.get(str(n)) == "b"
        assert len(headers.pairs) == 13_001
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 12_000_000, "of a few at most; of all it would be 60 MB"


@pytest.mark.skipif(sys.platform == "win32", reason="its processor time ticks too coarsely")
def test_a_peer_with_thousands_of_names_costs_no_more_than_their_number() -> None:
    def cost(names: int) -> float:
        data = b"".join(b"%x:v\r\n" % name for name in range(names))
        start = time.process_time()
        dict(TextHeaders.decode(data))
        return time.process_time() - start

    # Eight times as many names: 64 times as long if it were quadratic.
    assert growth(cost, 1000, 8000) < 30


@pytest.mark.skipif(sys.platform == "win32", reason="its processor time ticks too coarsely")
@pytest.mark.parametrize("piece", [b"\r", b"\rx", b"a:\r\n", b"a:\r", b" ", b"\n"])
@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_each_byte_is_looked_at_once(piece: bytes, end: bytes) -> None:
    def cost(count: int) -> float:
        data = b"n:" + piece * count + end
        start = time.process_time()
        with contextlib.suppress(InvalidMessage):
            TextHeaders.decode(data)
        return time.process_time() - start

    # Sixteen times as many: 256 times as long if it were quadratic.
    assert growth(cost, 1000, 16_000) < 60


@pytest.mark.parametrize("wrong", ["Name: it", b"Name: it", 5, [5], [("a", "b", "c")], True])
def test_what_are_no_pairs_are_told_what_headers_are(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^headers must be a mapping or pairs .*, not .*: pass {\"Name"
    ):
        TextHeaders(wrong)

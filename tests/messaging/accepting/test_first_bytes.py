"""The first bytes that a pending connection must have sent before it waits for a slot."""

from __future__ import annotations

import pytest

from tests.messaging.peers import frame, hello
from tofu_aio import OpCode
from tofu_aio.messaging.accepting.first_bytes import client_hello_bytes, hello_bytes
from tofu_aio.messaging.limits import EARLY_BYTES
from tofu_aio.protocol.binary_header import HEADER_SIZE
from tofu_aio.protocol.op_code import ORIGIN_BIT

LARGE = frame(OpCode.HELLO_REQUEST, headers=b"a:" + b"b" * 60_000 + b"\r\n")
RECORD = b"\x16\x03\x01"
"""The start of a ClientHello, without its length."""


def test_a_header_is_needed_to_know_how_long_the_hello_is() -> None:
    assert {hello_bytes(hello()[:size]) for size in range(HEADER_SIZE)} == {HEADER_SIZE}


@pytest.mark.parametrize("more", [b"", b"the next message"])
def test_the_whole_hello_is_needed(more: bytes) -> None:
    whole = hello()
    for size in range(HEADER_SIZE, len(whole)):
        assert hello_bytes(whole[:size]) == len(whole)
    assert hello_bytes(whole + more) == len(whole)


def test_of_a_large_one_as_much_as_is_read() -> None:
    assert hello_bytes(LARGE[:HEADER_SIZE]) == EARLY_BYTES
    assert hello_bytes(LARGE[:EARLY_BYTES]) == EARLY_BYTES


@pytest.mark.parametrize("op_code", [each for each in OpCode if each is not OpCode.HELLO_REQUEST])
def test_anything_else_is_no_hello(op_code: OpCode) -> None:
    assert hello_bytes(frame(op_code)[:HEADER_SIZE]) is None


def test_other_bits_of_the_header_do_not_matter_here() -> None:
    """The connection's own checks explain what is wrong with them."""
    first = bytearray(hello())
    first[2] |= ORIGIN_BIT
    assert hello_bytes(bytes(first)) == len(first)


def test_with_tls_the_first_record_is_needed() -> None:
    assert {client_hello_bytes(RECORD[:size]) for size in range(4)} == {5}
    assert client_hello_bytes(RECORD + b"\x01\x00") == 5 + 256
    assert client_hello_bytes(RECORD + b"\xff\xff") == EARLY_BYTES


@pytest.mark.parametrize("other", [b"GET / HTTP/1.1", hello(), b"\x15\x03\x03\x00\x02\x02\x28"])
def test_what_is_no_handshake_of_tls_is_no_hello(other: bytes) -> None:
    assert client_hello_bytes(other[:5]) is None

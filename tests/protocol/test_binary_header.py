"""The sixteen bytes, their order and their limits."""

from __future__ import annotations

import struct

import pytest

from tofu_aio.protocol.binary_header import HEADER_SIZE, MAX_FRAME, MAX_PART, BinaryHeader
from tofu_aio.protocol.op_code import OpCode, Origin
from tofu_aio.protocol.status import Status

WIRE = bytes.fromhex("1234 31 16 0102030405060708 0a0b 0c0d")
HEADER = BinaryHeader(0x1234, 0x31, 0x16, 0x0102030405060708, 0x0A0B, 0x0C0D)


def test_it_packs_and_unpacks_in_the_order_of_the_wire() -> None:
    assert HEADER.pack() == WIRE
    assert BinaryHeader.unpack(WIRE) == HEADER
    assert len(WIRE) == HEADER_SIZE == 16


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_it_unpacks_in_the_middle_of_any_bytes(kind: type) -> None:
    assert BinaryHeader.unpack(kind(b"abc" + WIRE + b"xyz"), 3) == HEADER


def test_it_says_what_the_bytes_mean() -> None:
    assert HEADER.op_code is OpCode.RESPONSE
    assert HEADER.origin is Origin.ENGINE
    assert HEADER.more is True
    assert HEADER.status is Status.CHANNEL_CLOSED
    assert HEADER.frame_size == 16 + 0x0A0B + 0x0C0D


def test_bits_6_and_7_mean_nothing() -> None:
    header = HEADER._replace(proto=0xC2)
    assert (header.op_code, header.origin, header.more) == (
        OpCode.SIGNAL,
        Origin.APPLICATION,
        False,
    )


def test_a_status_of_the_future_is_an_unknown_error() -> None:
    assert HEADER._replace(status_byte=255).status is Status.UNKNOWN_ERROR


def test_the_largest_frame() -> None:
    header = HEADER._replace(text_headers_len=MAX_PART, body_len=MAX_PART)
    assert header.frame_size == MAX_FRAME == 16 + 2 * 65535


@pytest.mark.parametrize("value", range(10, 16))
def test_six_op_codes_are_none(value: int) -> None:
    with pytest.raises(IndexError):
        _ = HEADER._replace(proto=value).op_code


def test_fifteen_bytes_are_no_header() -> None:
    with pytest.raises(struct.error):
        BinaryHeader.unpack(WIRE[:15])

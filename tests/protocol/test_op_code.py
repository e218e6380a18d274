"""Op codes, their families and roles, and the byte that carries them."""

from __future__ import annotations

from itertools import product

import pytest

from tofu_aio.protocol.op_code import (
    MORE_BIT,
    OP_CODE_MASK,
    OP_CODES,
    ORIGIN_BIT,
    PUBLIC_BITS,
    MessageType,
    OpCode,
    Origin,
    Role,
    pack_proto,
)

TABLE = """
    0 REQUEST           regular request
    1 RESPONSE          regular response
    2 SIGNAL            regular signal
    3 HELLO_REQUEST     hello   request
    4 HELLO_RESPONSE    hello   response
    5 BYE_REQUEST       bye     request
    6 BYE_RESPONSE      bye     response
    7 BYE_SIGNAL        bye     signal
    8 WELCOME_REQUEST   welcome request
    9 WELCOME_RESPONSE  welcome response
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("value", "name", "family", "role"), ROWS)
def test_each_op_code_says_what_it_is(value: str, name: str, family: str, role: str) -> None:
    op_code = OpCode[name]
    assert op_code == int(value)
    assert op_code.message_type is MessageType(family)
    assert op_code.role is Role(role)
    assert OP_CODES[int(value)] is op_code


def test_there_are_no_more() -> None:
    assert len(OpCode) == len(OP_CODES) == len(ROWS)


@pytest.mark.parametrize(("op_code", "origin", "more"), [*product(OpCode, Origin, (False, True))])
def test_proto_keeps_its_three_parts_apart(op_code: OpCode, origin: Origin, more: bool) -> None:
    proto = pack_proto(op_code, origin=origin, more=more)
    assert proto == op_code + 16 * origin + 32 * more
    assert proto & OP_CODE_MASK == op_code
    assert bool(proto & ORIGIN_BIT) is (origin is Origin.ENGINE)
    assert bool(proto & MORE_BIT) is more
    assert proto & ~PUBLIC_BITS == 0


def test_a_proto_is_the_application_s_and_complete_unless_told() -> None:
    assert pack_proto(OpCode.SIGNAL) == 2

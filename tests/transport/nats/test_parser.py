"""Messages that nats-py's parser cannot take: they and the others arrive as they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.transport.nats.brokers import missing

pytest.importorskip("nats", reason=str(missing()))

from nats.errors import ProtocolError

from tofu_aio.transport.nats.parser import Parser


class Client:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, *rest: bytes) -> None:
        self.got.append((sid, subject, reply, *rest))

    async def _process_pong(self) -> None:
        self.got.append("pong")


GOOD = b"MSG a 1 b 2\r\nxy\r\n", (1, b"a", b"b", b"xy", None)
HEADED = (
    b"HMSG a 2 b 12 13\r\nNATS/1.0\r\n\r\nz\r\n",
    (2, b"a", b"b", b"z", b"NATS/1.0\r\n\r\n"),
)
ODD = [
    (b"MSG a 1 2\r\nxy\r\n", (1, b"a", b"", b"xy", None)),
    (b"MSG a 1 b\vc 2\r\nxy\r\n", (1, b"a", b"b\vc", b"xy", None)),
    (b"MSG a\f9 1 c\vd\f7 0\r\n\r\n", (1, b"a\f9", b"c\vd\f7", b"", None)),
    (b"MSG a 1 b\rc 6\r\nMSG \r\n\r\n", (1, b"a", b"b\rc", b"MSG \r\n", None)),
    (b"MSG a\vx 1 5\r\n12345\r\n", (1, b"a\vx", b"", b"12345", None)),
    (
        b"HMSG a\vx\vy 1 b\r7 12 17\r\nNATS/1.0\r\n\r\nPING\n\r\n",
        (1, b"a\vx\vy", b"b\r7", b"PING\n", b"NATS/1.0\r\n\r\n"),
    ),
    (b"MSG a 1 " + b"\v" * 4050 + b" 1\r\nx\r\n", (1, b"a", b"\v" * 4050, b"x", None)),
]


@pytest.mark.parametrize(("wire", "message"), ODD)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_they_and_those_before_and_behind_them_are_taken(
    wire: bytes, message: Any, size: int
) -> None:
    client = Client()
    parser = Parser(client)
    stream = GOOD[0] + wire + HEADED[0] + 2 * wire + b"PONG\r\n" + GOOD[0]
    for begin in range(0, len(stream), size):
        await parser.parse(stream[begin : begin + size])
    assert client.got == [GOOD[1], message, HEADED[1], message, message, "pong", GOOD[1]]
    assert not parser.buf


def test_nats_py_s_own_parser_is_left_as_it_is() -> None:
    import nats.protocol.parser

    assert not nats.protocol.parser.MSG_RE.match(b"MSG a 1 b\vc 2\r\n")


@pytest.mark.parametrize("line", [b"NONSENSE\r\n", b"MSG a\r\n", b"MSG a 1 b\vc x\r\n"])
async def test_what_is_no_message_still_ends_the_connection(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await Parser(Client()).parse(GOOD[0] + line)

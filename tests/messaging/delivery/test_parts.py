"""How a long body is split into parts, and how an incomplete one is withdrawn."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any, NamedTuple

import pytest

import tofu_aio as tofu
from tests.messaging.peers import turns
from tofu_aio import Status
from tofu_aio.messaging.delivery.parts import Body, length_of, pieces, send_in_parts
from tofu_aio.protocol.binary_header import MAX_PART
from tofu_aio.protocol.op_code import MORE_BIT
from tofu_aio.protocol.status import LEFT

RESPONSE = int(tofu.OpCode.RESPONSE)
LONG = bytes(range(250)) * 800  # 200,000 bytes: four parts


class Sent(NamedTuple):
    """One message, as it was put."""

    proto: int
    message_id: int
    headers: bytes = b""
    body: bytes = b""
    status: int = Status.SUCCESS


class Wire:
    """A send queue, as far as parts need one."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.blocked = False
        self.ended = False
        self.has_room = asyncio.Event()

    def enqueue(
        self,
        proto: int,
        message_id: int = 0,
        headers: bytes = b"",
        body: Body = b"",
        status: int = Status.SUCCESS,
        _at_once: bool = False,
    ) -> None:
        if self.ended:
            raise tofu.ChannelClosed("closed")
        self.sent.append(Sent(proto, message_id, headers, bytes(body), status))

    async def wait_for_room(self) -> None:
        await self.has_room.wait()

    async def send(self, body: Body = LONG, **options: Any) -> None:
        options = {"status": Status.SUCCESS, "wanted": lambda: True, **options}
        await send_in_parts(self, RESPONSE, 7, b"a:b\r\n", body, **options)  # type: ignore[arg-type]


@pytest.fixture
def wire() -> Wire:
    return Wire()


# --- cutting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("length", "lengths"),
    [
        (0, [0]),
        (1, [1]),
        (MAX_PART, [MAX_PART]),
        (MAX_PART + 1, [MAX_PART, 1]),
        (2 * MAX_PART, [MAX_PART, MAX_PART]),
        (2 * MAX_PART + 3, [MAX_PART, MAX_PART, 3]),
    ],
)
def test_each_piece_is_as_long_as_a_message_may_be(
    kind: type[Body], length: int, lengths: list[int]
) -> None:
    body = bytes(number % 251 for number in range(length))
    cut = [(bytes(piece), last) for piece, last in pieces(kind(body))]
    assert [len(piece) for piece, _ in cut] == lengths
    assert [last for _, last in cut] == [False] * (len(lengths) - 1) + [True]
    assert b"".join(piece for piece, _ in cut) == body


def test_items_of_several_bytes_are_cut_by_bytes() -> None:
    view = memoryview(array("I", range(30_000)))
    assert length_of(view) == view.nbytes > len(view)
    assert b"".join(bytes(piece) for piece, _ in pieces(view)) == view.tobytes()


def test_what_is_no_body_is_refused() -> None:
    with pytest.raises(TypeError):
        list(pieces("text"))  # type: ignore[arg-type]


# --- sending ---------------------------------------------------------------------------------


async def test_the_first_part_has_the_headers_and_the_last_one_the_status(wire: Wire) -> None:
    await wire.send(status=Status.PROCESSING_FAILED)
    assert b"".join(part.body for part in wire.sent) == LONG
    more = RESPONSE | MORE_BIT
    assert [part._replace(body=b"") for part in wire.sent] == [
        Sent(more, 7, b"a:b\r\n"),
        Sent(more, 7),
        Sent(more, 7),
        Sent(RESPONSE, 7, status=Status.PROCESSING_FAILED),
    ]


async def test_others_have_their_turn_between_parts(wire: Wire) -> None:
    sending = asyncio.create_task(wire.send())
    seen = []
    while not sending.done():
        await turns(1)
        seen.append(len(wire.sent))
    assert {1, 2, 3, 4} <= set(seen)


async def test_each_part_waits_for_room(wire: Wire) -> None:
    wire.blocked = True
    sending = asyncio.create_task(wire.send())
    await turns(10)
    assert wire.sent == []
    wire.has_room.set()
    await sending
    assert len(wire.sent) == 4


async def test_what_nobody_wants_any_more_ends_early_and_says_so(wire: Wire) -> None:
    await wire.send(wanted=lambda: len(wire.sent) < 2)
    assert [part._replace(body=b"") for part in wire.sent[1:]] == [
        Sent(RESPONSE | MORE_BIT, 7),
        Sent(RESPONSE, 7, status=LEFT),
    ]


async def test_what_was_never_wanted_is_never_begun(wire: Wire) -> None:
    await wire.send(wanted=lambda: False)
    assert wire.sent == []


@pytest.mark.parametrize("parts", [0, 1, 3])
async def test_cancelled_it_takes_back_what_it_has_begun(wire: Wire, parts: int) -> None:
    sending = asyncio.create_task(wire.send())
    await turns(parts)
    assert len(wire.sent) == parts
    wire.blocked = True
    await turns(3)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert [part.status for part in wire.sent[parts:]] == ([LEFT] if parts else [])


async def test_a_channel_that_ends_needs_no_last_word(wire: Wire) -> None:
    sending = asyncio.create_task(wire.send())
    await turns(2)
    wire.ended = True
    with pytest.raises(tofu.ChannelClosed):
        await sending
    assert all(part.proto & MORE_BIT for part in wire.sent)

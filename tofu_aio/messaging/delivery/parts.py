"""A body of any length, sent in parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from ...protocol.binary_header import MAX_PART
from ...protocol.errors import TofuError
from ...protocol.message import checked_body
from ...protocol.op_code import MORE_BIT
from ...protocol.status import LEFT, Status
from ..connection.send_queue import SendQueue

Body: TypeAlias = bytes | bytearray | memoryview


def length_of(body: Body) -> int:
    """The length of a body in bytes."""
    return body.nbytes if isinstance(body, memoryview) else len(body)


def pieces(body: Body) -> Iterator[tuple[bytes | memoryview, bool]]:
    """Pieces of a body that each fit in a part, with whether it is the last."""
    if not isinstance(body, bytearray | memoryview) and len(body) <= MAX_PART:
        yield checked_body(body), True
        return
    with memoryview(body) as view, view.cast("B") as octets:
        for begin in range(0, len(octets) or 1, MAX_PART):
            yield octets[begin : begin + MAX_PART], begin + MAX_PART >= len(octets)


async def send_in_parts(
    queue: SendQueue,
    proto: int,
    message_id: int,
    headers: bytes,
    body: Body,
    *,
    status: Status,
    wanted: Callable[[], bool],
    announce: bytes = b"",
) -> None:
    """Send a long body as parts of one request or response.

    ``announce`` has the engine's own headers. They go on the first part, or on an empty part
    before it if they do not fit. Sending ends early once ``wanted`` returns False. Then, and when
    the call is cancelled, a last part with the status PROCESSING_FAILED is sent, and the peer
    drops the parts before it.
    """
    incomplete = False
    try:
        for piece, last in pieces(body):
            if incomplete:
                await asyncio.sleep(0)  # while there is room nothing here waits: let others run
            if queue.blocked:
                await queue.wait_for_room()
            if not wanted():
                return
            if len(announce) + len(headers) > MAX_PART:
                queue.enqueue(proto | MORE_BIT, message_id, announce)
                incomplete, announce = True, b""
            headers, announce = announce + headers, b""
            if last:
                queue.enqueue(proto, message_id, headers, piece, status, True)
            else:
                queue.enqueue(proto | MORE_BIT, message_id, headers, piece, 0, True)
            incomplete, headers = not last, b""
    finally:
        if incomplete:
            with contextlib.suppress(TofuError):  # the channel has ended, and the peer knows
                queue.enqueue(proto & ~MORE_BIT, message_id, status=LEFT)

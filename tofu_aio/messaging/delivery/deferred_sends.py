"""Sends that cannot be done at once: they wait for room, or need several messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from ...protocol.binary_header import MAX_PART
from ...protocol.message import Message, next_message_id
from ...protocol.op_code import PUBLIC_BITS, OpCode
from ...protocol.status import Status
from ...protocol.text_headers import WHOLE, TextHeaders
from ..connection.agreements import Extension
from ..connection.connection import Connection
from .dispatcher import Dispatcher
from .parts import Body, length_of, send_in_parts

_C = TypeVar("_C")

_REQUEST: Final = int(OpCode.REQUEST)
_SUCCESS: Final = Status.SUCCESS


class DeferredSends:
    """The deferred sends of one channel. Made when the first is needed.

    Args:
        connection: the channel's.
        dispatcher: the channel's.
    """

    def __init__(self, connection: Connection, dispatcher: Dispatcher[_C]) -> None:
        self._connection = connection
        self._pending_requests = dispatcher.pending_requests
        self._is_awaited = dispatcher.is_awaited
        self._turn = asyncio.Lock()  # held by a send that needs several messages

    async def send(
        self,
        proto: int,
        message_id: int,
        text: bytes,
        body: Body,
        status: Status = _SUCCESS,
        *,
        wanted: Callable[[], bool],
        announce: bytes = b"",
    ) -> None:
        """Send once there is room; a body that needs several messages also waits for its turn.

        Once ``wanted`` returns False, nothing more of it is sent.
        """
        queue = self._connection.queue
        if length_of(body) <= MAX_PART:
            await queue.wait_for_room()
            if wanted():
                queue.enqueue(proto, message_id, text, body, status, True)
            return
        # One long body after another: sent concurrently, each would be incomplete for longer.
        async with self._turn:
            await send_in_parts(
                queue,
                proto,
                message_id,
                text,
                body,
                status=status,
                wanted=wanted,
                announce=announce,
            )

    async def forward(self, item: Message) -> None:
        """Send a long request or response in parts. It keeps its permit until then."""
        message_id, announce = item.message_id or next_message_id(), b""
        wanted: Callable[[], bool] = partial(self._is_awaited, message_id)
        posted = self._pending_requests().posted if item.op_code is OpCode.REQUEST else None
        if posted is not None:
            announce = self._announcement(message_id, item.body)
            posted.add(message_id)
            wanted = partial(posted.__contains__, message_id)
        try:
            await self.send(
                item._proto & PUBLIC_BITS,
                message_id,
                item.headers.encode(),
                item.body,
                item.status,
                wanted=wanted,
                announce=announce,
            )
        except BaseException:
            if posted is not None:
                posted.discard(message_id)
            raise
        item.release()

    async def reply(
        self, message_id: int, proto: int, text: bytes, body: Body, status: Status
    ) -> None:
        """Send a response, unless the peer cancels its request before."""
        wanted = partial(self._is_awaited, message_id)
        await self.send(proto, message_id, text, body, status, wanted=wanted)

    async def request(
        self, message_id: int, text: bytes, body: Body, response: asyncio.Future[Message]
    ) -> None:
        """Send a long request. If it is refused, the response may come before it is all sent."""
        pending = self._pending_requests()
        announce = self._announcement(message_id, body)
        pending.posted.discard(message_id)
        pending.requests[message_id] = response
        try:
            await self.send(
                _REQUEST,
                message_id,
                text,
                body,
                wanted=lambda: not response.done(),
                announce=announce,
            )
        except BaseException:
            pending.abandon(message_id)
            if response.done() and not response.cancelled():
                response.exception()  # marks it as retrieved; the caller gets the error below
            raise

    def _announcement(self, message_id: int, body: Body) -> bytes:
        """The header that asks the peer to join a long request, unless it has parts of it already.

        Empty if the peer does not join requests.
        """
        if message_id in self._pending_requests().posted:
            return b""
        if not self._connection.peer_supports & Extension.WHOLE:
            return b""
        return TextHeaders({WHOLE: str(length_of(body))}).encode()

"""What a signal handler or a finalizer posts, at any moment, is sent once and whole.

CPython runs them after a call has returned and as a function begins; so does this.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, Final

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import client_context, server_context
from tests.messaging.peers import Pair, connection_of
from tofu_aio import OpCode
from tofu_aio.messaging.connection import connection, frame_queue, send_queue, waiting_senders
from tofu_aio.messaging.connection.send_queue import SendQueue
from tofu_aio.messaging.delivery import mailbox

WATCHED: Final = {
    module.__file__ for module in (connection, frame_queue, mailbox, send_queue, waiting_senders)
}


class Handler:
    """Runs after each call that the watched files make, and at each function's beginning."""

    def __init__(self) -> None:
        self.calls = 0
        self._running = False

    def came(self) -> None:
        """What it does."""
        raise NotImplementedError

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if self._running or event not in {"call", "c_return"}:
            return
        if frame.f_code.co_filename not in WATCHED:
            return
        self._running = True
        try:
            self.came()
        finally:
            self._running = False


class RevocableCall(Handler):
    """Posts a message of its own, now and then a long one."""

    def __init__(self, channel: tofu.Channel) -> None:
        super().__init__()
        self._channel = channel
        self.posted: list[bytes] = []

    def came(self) -> None:
        self.calls += 1
        if self.calls % 3 == 0 and self._channel.end is None:
            body = b"handler %d" % self.calls + bytes(20_000 if self.calls % 30 == 0 else 0)
            self._channel.post(tofu.Message(OpCode.SIGNAL, body))
            self.posted.append(body)


@pytest.mark.parametrize("high_water", [64, 65_536])
@pytest.mark.parametrize("size", [1, 2_000, 20_000])
async def test_what_a_handler_posts_is_sent_once_and_whole(high_water: int, size: int) -> None:
    async with (
        tofu.Engine(write_high_water=high_water) as engine,
        engine.create_group() as group,
        await group.listen("tcp://127.0.0.1:0") as listener,
    ):
        channel, peer = await asyncio.gather(group.connect(listener.address), listener.accept())
        handler = RevocableCall(channel)
        own = [b"%d" % number + bytes(size) for number in range(40)]
        got: list[bytes] = []

        async def read() -> None:
            async for message in peer:
                got.append(message.body)
                message.release()

        reading = asyncio.create_task(read())
        for body in own:
            with handler.interrupting():
                connection_of(channel).queue.enqueue_message(
                    tofu.Message(OpCode.SIGNAL, body), at_once=True
                )
            await asyncio.sleep(0)
            with handler.interrupting():
                connection_of(channel).queue.send_heartbeat()
        await channel.aclose()
        await reading
        assert handler.posted
        assert [body for body in got if not body.startswith(b"handler")] == own
        assert [body for body in got if body.startswith(b"handler")] == handler.posted
        assert not connection_of(channel).queue.carried


@asynccontextmanager
async def channel_over(layer: str, **options: int) -> AsyncIterator[Pair]:
    ours, theirs = (server_context(), client_context()) if layer == "TLS" else (None, None)
    async with (
        tofu.Engine(**options) as engine,
        engine.create_group() as group,
        await group.listen("tcp://127.0.0.1:0", ssl=ours) as listener,
    ):
        yield Pair(
            *await asyncio.gather(group.connect(listener.address, ssl=theirs), listener.accept())
        )


@pytest.mark.parametrize("size", [100, 2_000, 60_000])
@pytest.mark.parametrize("layer", ["TCP", "TLS"])
async def test_what_is_posted_is_written_at_the_end_of_the_turn(
    layer: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[SendQueue] = []
    flush = SendQueue.flush

    def spied(queue: SendQueue) -> None:
        flushed.append(queue)
        flush(queue)

    async with channel_over(layer, write_high_water=1_000) as (channel, peer):
        monkeypatch.setattr(SendQueue, "flush", spied)
        for number in range(50):
            channel.post(tofu.Message(OpCode.SIGNAL, b"%d" % number + bytes(size)))
        assert not flushed
        for number in range(50):
            assert (await peer.receive()).body == b"%d" % number + bytes(size)
        assert connection_of(channel).queue in flushed


class Putting(Handler):
    """Wakes the group's receiver."""

    def __init__(self, group: tofu.ChannelGroup) -> None:
        super().__init__()
        self._group = group
        self._at = 0

    def at(self, call: int) -> Putting:
        """At which call it does."""
        self._at, self.calls = call, 0
        return self

    def came(self) -> None:
        self.calls += 1
        if self.calls == self._at:
            self._group.update_receiver(tofu.Message(OpCode.SIGNAL, b"of the handler"))


async def test_what_a_handler_puts_into_a_mailbox_is_received() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        handler = Putting(group)
        for call in range(1, 15):
            receiving = asyncio.create_task(group.receive())
            with handler.at(call).interrupting():
                await asyncio.sleep(0)  # it begins to wait
                group.update_receiver(tofu.Message(OpCode.SIGNAL, b"own"))
                await asyncio.sleep(0)
            bodies = [(await asyncio.wait_for(receiving, 20)).body]
            if handler.calls >= call:
                bodies.append((await asyncio.wait_for(group.receive(), 20)).body)
            assert sorted(bodies) == [b"of the handler", b"own"][-len(bodies) :]

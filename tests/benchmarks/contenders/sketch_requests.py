"""Requests from many tasks over the sketch's channel: its server, and futures by message id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tests.benchmarks.contenders import sketch
from tests.benchmarks.load import Load, Meter, asking, until_one_ends

serve = sketch.serve


class Channel(sketch.Channel):
    """The client's side."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[int, asyncio.Future[sketch.Received]] = {}
        self.last_id = 0

    def received(self, batch: Iterable[sketch.Received]) -> None:
        """Each is an answer."""
        for message in batch:
            sketch.run_wake_ups(self.asked.pop(message.message_id), message)

    def connection_lost(self, exc: Exception | None) -> None:
        for answer in self.asked.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())

    async def request(self, body: bytes) -> sketch.Received:
        """Queue a message and wait for the one with its id."""
        self.last_id = message_id = self.last_id + 1
        await self.send(message_id, body)
        answer: asyncio.Future[sketch.Received] = self.loop.create_future()
        self.asked[message_id] = answer
        return await answer


async def drive(load: Load, port: int, meter: Meter) -> None:
    """As many tasks as the window has."""
    _, channel = await asyncio.get_running_loop().create_connection(Channel, "127.0.0.1", port)
    tasks = asking(channel.request, load, meter)
    await asyncio.sleep(0)  # all have asked
    channel.flush()
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    channel.transport.pause_reading()  # for who is cancelled now, no answer may come
    await until_one_ends(tasks)
    channel.transport.abort()

"""The core in several threads at once, without the GIL: what it keeps for itself is not shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.core.talking import Side, framed
from tests.messaging.threads.test_at_once import at_once
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.pool import Pool

THREADS = 4
ROUNDS = 2000


def in_threads(function: Callable[[int], object]) -> None:
    """Call a function in several threads, with another number in each."""
    numbers = count()
    at_once(*[lambda: function(next(numbers))] * THREADS)


def test_a_message_that_one_thread_drops_is_no_other_thread_s() -> None:
    def decode(number: int) -> None:
        pool = Pool(100, lambda: None)
        decoder = Decoder(pool, State.OPEN, number)
        data = b"".join(framed(0, at, b"%d" % number) for at in range(1, 101))
        for _ in range(ROUNDS):
            batch = decoder.feed(data)
            assert [message.message_id for message in batch] == list(range(1, 101))
            assert {(message.channel_number, message.body) for message in batch} == {
                (number, b"%d" % number)
            }
            del batch
            assert len(pool.free) == 100

    in_threads(decode)


def test_what_one_thread_awaits_is_no_other_thread_s() -> None:
    async def receive(number: int) -> None:
        side = Side(compiled=True)
        for _ in range(ROUNDS):
            items: Any = [(number, at) for at in range(100)]
            side.channel._mailbox.deliver(items)
            assert [await side.channel.receive() for _ in range(100)] == items
        await side.end()

    in_threads(lambda number: asyncio.run(receive(number), debug=False))

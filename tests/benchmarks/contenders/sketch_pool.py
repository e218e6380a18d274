"""The sketch with our decoder: what comes in has all our promises, what goes out none.

Its messages are ours, judged, with permits of a pool that their finalizers give back.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tests.benchmarks.contenders import sketch
from tests.benchmarks.load import Load, Meter
from tofu_aio.messaging.connection.connection import PORTION, SMALL
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.pool import Pool

LIMITS = Limits()
POOL = Pool(LIMITS.pool_messages, lambda: None, unit=LIMITS.unit)


class Channel(sketch.Channel):
    """Both sides of one."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder(POOL, State.OPEN, 1)

    def buffer_updated(self, nbytes: int) -> None:
        data = sketch.BUFFER[:nbytes]
        decoder, portion = self.decoder, PORTION
        batch = decoder.feed(data if nbytes > SMALL else data.tobytes(), portion)
        while True:
            self.received(batch)
            batch.clear()
            self.flush()
            if not decoder.pending:
                break
            portion *= 2
            batch = decoder.more(portion)


def serve(load: Load) -> AbstractAsyncContextManager[int]:
    """Echo messages."""
    return sketch.serving(Channel)


async def drive(load: Load, port: int, meter: Meter) -> None:
    """Keep a window under way."""
    await sketch.driving(Channel, load, port, meter)

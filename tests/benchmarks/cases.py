"""What is measured: the cases, as data."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.load import Load
from tests.benchmarks.roster import CONTENDERS

KIB = 1024

LARGEST = 65_535
"""The most that a message's body may have, one less than 64 KiB: all contenders send as much."""


@dataclass(frozen=True)
class Case:
    """One load for some contenders, on each loop.

    Attributes:
        title: as tables call it.
        contenders: who can do it, and means something there.
        window: messages under way on each channel.
        size: of a body, in bytes.
        channels: how many.
    """

    title: str
    contenders: tuple[str, ...]
    window: int
    size: int
    channels: int = 1

    def load(self, contender: str, loop: str, seconds: float) -> Load:
        """For one of its measurements."""
        plain = CONTENDERS[contender].plain
        return Load(
            plain or contender,
            loop,
            self.window,
            self.size,
            seconds,
            self.channels,
            compiled=bool(plain),
        )


OURS = ("tofu", "tofu_compiled")
OUR_REQUESTS = ("requests", "requests_compiled")
DOCUMENTED = ("bare", *OURS, "streams", "picows", "websockets", "pyzmq", "pynng", "grpc")
FRAMED = ("bare", *OURS, "streams", "websockets")
MANY_AT_ONCE = ("bare", *OURS)
CALLS = (*OUR_REQUESTS, "calls", "calls_compiled", "grpc_unary", "nats")
ALONE = (*DOCUMENTED, "sketch")
# With one message under way there is nothing to drain, and a task is as good as a loop.
PIPELINED = (
    *ALONE,
    "sketch_pool",
    *OUR_REQUESTS,
    "sketch_requests",
    "pyzmq_drained",
    "pynng_drained",
)

ONE = Case("64 B, window 1", ALONE, 1, 64)
SOME = Case("64 B, window 64", PIPELINED, 64, 64)
MANY = Case("64 B, window 200", PIPELINED, 200, 64)
PAGES = Case("4 KiB, window 64", FRAMED, 64, 4 * KIB)
LARGE = Case("64 KiB, window 8", FRAMED, 8, LARGEST)
FEW_CHANNELS = Case("64 B, 10 channels, window 1", MANY_AT_ONCE, 1, 64, 10)
MANY_CHANNELS = Case("64 B, 1,000 channels, window 1", MANY_AT_ONCE, 1, 64, 1000)
FEW_BUSIER = Case("64 B, 10 channels, window 8", MANY_AT_ONCE, 8, 64, 10)
MANY_BUSIER = Case("64 B, 1,000 channels, window 8", MANY_AT_ONCE, 8, 64, 1000)
ONE_CALL = Case("a call of 64 B, window 1", CALLS, 1, 64)
SOME_CALLS = Case("calls of 64 B, window 64", CALLS, 64, 64)

CASES = (
    ONE,
    SOME,
    MANY,
    PAGES,
    LARGE,
    FEW_CHANNELS,
    MANY_CHANNELS,
    FEW_BUSIER,
    MANY_BUSIER,
    ONE_CALL,
    SOME_CALLS,
)
WINDOWS = (ONE, SOME, MANY)

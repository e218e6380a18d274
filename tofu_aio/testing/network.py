"""The properties of a simulated network: latency, bandwidth, buffers and faults."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Self, TypeAlias

Range: TypeAlias = tuple[float, float]
"""A minimum and a maximum. Values between them are drawn with a uniformly distributed logarithm."""

_CHANCES: Final = ("resets", "half_closes", "stalls", "refusals", "accept_failures")
_RANGES: Final = ("latency", "bandwidth", "reads", "writes", "segments", "stall_times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The properties of a simulated network. Values in ranges are drawn from the world's seed.

    The defaults have no faults, but are hard on programs nevertheless: bytes arrive in pieces of
    any size, connections overtake each other, and buffers are small.

    Args:
        latency: seconds that a segment, or the answer to an attempt to connect, takes to arrive.
        bandwidth: bytes per second, drawn once for each direction of each connection.
        reads: the most bytes that one read returns; ``(1, 1)`` returns every byte alone.
        writes: the most bytes that one write accepts.
        segments: the most bytes that travel together.
        send_buffer: bytes that a socket accepts before they have arrived; 1 or more.
        receive_buffer: bytes that are buffered for a peer that does not read; 1 or more.
        resets: the probability, 0 to 1, that a segment is the last one of its connection, which
            both ends then lose.
        half_closes: the probability that a segment is the last one of its direction: the receiver
            sees the end of the stream, and the sender's next segment is answered with a reset.
        stalls: the probability that a segment, and what follows it, is delayed.
        stall_times: how long such a delay lasts, in seconds.
        refusals: the probability that an attempt to connect is refused.
        accept_failures: the probability that accepting fails, because the connection is lost at
            that moment or because there is no free descriptor.
        hosts: the IPv4 or IPv6 addresses of each host name. Numeric addresses and ``localhost``
            need no entry.
        silent: addresses that never answer.

    Raises:
        ValueError: a probability, a range or a buffer is not valid; the message says which.
    """

    latency: Range = (0.0001, 0.01)
    bandwidth: Range = (1e6, 1e9)
    reads: Range = (1, 262_144)
    writes: Range = (1, 262_144)
    segments: Range = (1, 65_536)
    send_buffer: int = 65_536
    receive_buffer: int = 65_536
    resets: float = 0.0
    half_closes: float = 0.0
    stalls: float = 0.0
    stall_times: Range = (0.01, 2.0)
    refusals: float = 0.0
    accept_failures: float = 0.0
    hosts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    silent: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        for name in _CHANCES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give a probability, 0 to 1")
        for name in _RANGES:
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(
                    f"{name} is {low, high}: give a minimum and a maximum, 0 < minimum <= maximum"
                )
        for name in ("reads", "writes", "segments"):
            if getattr(self, name)[0] < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: give a minimum of 1 byte or more"
                )
        for name in ("send_buffer", "receive_buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give 1 byte or more")

    @classmethod
    def drawn(cls, random: Random, *, faults: bool = True) -> Self:
        """Draw a network, so that each of many runs has a different one.

        Args:
            random: the source of the network's properties.
            faults: whether connections may fail; otherwise they are only slow and irregular.
        """
        sizes = [(1.0, 262_144.0), (1.0, 64.0), (1.0, 1500.0), (512.0, 262_144.0)]
        slowest = magnitude(random, 0.0002, 0.2)
        irregular = random.random() < 0.3

        def chance() -> float:
            return magnitude(random, 0.0003, 0.03) if faults and random.random() < 0.25 else 0.0

        return cls(
            latency=(slowest / 20, slowest),
            bandwidth=(1e5, 1e9) if random.random() < 0.2 else (1e7, 1e9),
            reads=random.choice(sizes) if irregular else sizes[0],
            writes=random.choice(sizes) if irregular else sizes[0],
            segments=random.choice(sizes[-2:]),
            send_buffer=random.choice([512, 4096, 65_536, 1 << 20]),
            receive_buffer=random.choice([512, 4096, 65_536, 1 << 20]),
            stalls=0.01 if random.random() < 0.2 else 0.0,
            resets=chance(),
            half_closes=chance(),
            refusals=chance(),
            accept_failures=chance(),
        )


def magnitude(random: Random, least: float, most: float) -> float:
    """Draw a number between two others, with a uniformly distributed logarithm."""
    return least if least == most else least * math.exp(random.random() * math.log(most / least))

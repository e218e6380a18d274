"""What the simulated network is like: how long, how wide, how broken."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Self, TypeAlias

Range: TypeAlias = tuple[float, float]
"""The least and the most; what is drawn between them is as likely to be of any magnitude."""

_CHANCES: Final = ("resets", "half_closes", "stalls", "refusals", "accept_failures")
_RANGES: Final = ("latency", "bandwidth", "reads", "writes", "segments", "stall_times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The properties of a simulated network. All is drawn from the seed of its world.

    The defaults lose nothing, and are hard on programs all the same: bytes come in pieces of any
    size, connections overtake each other, and buffers are small.

    Args:
        latency: seconds that a segment, or an answer to connecting, is on its way.
        bandwidth: bytes a second, of each direction of each connection; drawn once for it.
        reads: bytes that one read brings at most; ``(1, 1)`` brings every byte alone.
        writes: bytes that one write takes at most.
        segments: bytes that travel together.
        send_buffer: bytes that a socket takes before the peer has them; 1 or more.
        receive_buffer: bytes that wait for a peer who does not read; 1 or more.
        resets: the chance, 0 to 1, of each segment to be a connection's last: both ends lose it.
        half_closes: the chance of each segment to be a direction's last: the receiver sees the
            end of the stream, and the sender's next one is answered with a reset.
        stalls: the chance of each segment to be held up, and what follows it.
        stall_times: seconds for which that takes.
        refusals: the chance of each attempt to connect to be refused.
        accept_failures: the chance of each accepted connection to be lost in that moment, or not
            to be had for want of descriptors.
        hosts: the addresses of each name, IPv4 or IPv6. Numbers, and ``localhost``, need none.
        silent: addresses that never answer.

    Raises:
        ValueError: a chance, a range or a buffer makes no sense: the message says which.
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
                raise ValueError(f"{name} is {getattr(self, name)!r}: give a chance, 0 to 1")
        for name in _RANGES:
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name} is {low, high}: give 0 < the least <= the most")
        for name in ("reads", "writes", "segments"):
            if getattr(self, name)[0] < 1:
                raise ValueError(f"{name} are {getattr(self, name)}: give at least 1 byte")
        for name in ("send_buffer", "receive_buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give 1 byte or more")

    @classmethod
    def drawn(cls, random: Random, *, faults: bool = True) -> Self:
        """A network as bad as chance will have it, for many runs that are each unlike the others.

        Args:
            random: what it is drawn from.
            faults: whether connections may fail; without them they are only slow and choppy.
        """
        sizes = [(1.0, 262_144.0), (1.0, 64.0), (1.0, 1500.0), (512.0, 262_144.0)]
        slowest = magnitude(random, 0.0002, 0.2)
        choppy = random.random() < 0.3

        def chance() -> float:
            return magnitude(random, 0.0003, 0.03) if faults and random.random() < 0.25 else 0.0

        return cls(
            latency=(slowest / 20, slowest),
            bandwidth=(1e5, 1e9) if random.random() < 0.2 else (1e7, 1e9),
            reads=random.choice(sizes) if choppy else sizes[0],
            writes=random.choice(sizes) if choppy else sizes[0],
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
    """Something between, each magnitude as likely as any other."""
    return least if least == most else least * math.exp(random.random() * math.log(most / least))

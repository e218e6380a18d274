"""The attacks, each with the server that it attacks and the memory that it may take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.attacks import arriving, bodies, sealed, words
from tests.attacks.attacker import Attacker
from tests.attacks.bounds import (
    ANSWERS,
    CHUNKS,
    CONNECTION,
    EXCHANGES,
    HELLO,
    LENT,
    PARSED,
    RESERVE,
    SLACK,
    TLS,
    TLS_SLACK,
    UNSENT,
)
from tofu_aio.messaging.limits import (
    EARLY_BYTES,
    JOINING_BYTES,
    LEAVING_CHANNELS,
    PENDING_CHANNELS,
    POOL_BYTES,
    WAITING_CONNECTIONS,
)

HONEST = 2
"""Channels of the honest client."""


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        by: the function that attacks.
        at_once: connections that the server may have at the same time, including closing ones.
        each: bytes that each of them may take by the formula.
        shared: bytes that they may take together.
        kind: the kind of the server: ``streams``, ``messages`` or ``threads``.
        options: the options of its listener.
        logs: text that the server's log must contain, which proves that the attack reached it.
    """

    by: Callable[[Attacker], Awaitable[None]]
    at_once: int
    each: int = 0
    shared: int = 0
    kind: str = "streams"
    options: Mapping[str, object] = field(default_factory=dict)
    logs: str = ""

    @property
    def name(self) -> str:
        """The name for the command line and the table."""
        return self.by.__name__.replace("_", "-")

    @property
    def what(self) -> str:
        """A description, from the docstring of the function."""
        return (self.by.__doc__ or "").partition("\n")[0]

    @property
    def tls(self) -> bool:
        """Whether the server uses TLS."""
        return "tls" in self.options

    @property
    def bound(self) -> int:
        """Bytes by which the server's memory may grow."""
        channels = self.at_once + HONEST
        objects = CONNECTION + TLS * self.tls
        return self.shared + channels * (self.each + objects) + SLACK + TLS_SLACK * self.tls


FEW_CHANNELS = {"max_channels": 8, "heartbeat": 0.1}
"""A listener that allows few channels, and checks often whether peers are still there."""

TLS_ON = {"tls": True}

_ALL = (
    Attack(bodies.promised_bytes, bodies.MANY, RESERVE, POOL_BYTES),
    Attack(bodies.slow_bodies, bodies.MANY, RESERVE, POOL_BYTES),
    Attack(bodies.unfinished_uploads, bodies.SOME, RESERVE + CHUNKS, JOINING_BYTES),
    Attack(bodies.kept_headers, bodies.SOME, RESERVE + LENT + CHUNKS + HELLO, POOL_BYTES + PARSED),
    Attack(bodies.open_exchanges, 4, EXCHANGES + ANSWERS + CHUNKS, POOL_BYTES),
    Attack(bodies.unread_refusals, 1, ANSWERS + CHUNKS + UNSENT),
    Attack(bodies.unread_responses, bodies.SOME, RESERVE + CHUNKS + UNSENT, POOL_BYTES),
    Attack(bodies.unawaited_responses, 4, CHUNKS),
    Attack(arriving.silent_connections, WAITING_CONNECTIONS, EARLY_BYTES),
    Attack(arriving.partial_hellos, 16, EARLY_BYTES, options={"max_connections_per_address": 16}),
    Attack(arriving.rejected_peers, PENDING_CHANNELS + LEAVING_CHANNELS + WAITING_CONNECTIONS),
    Attack(arriving.idle_clients, arriving.CROWD + LEAVING_CHANNELS, options=FEW_CHANNELS),
    Attack(
        arriving.idle_threads,
        arriving.CROWD + LEAVING_CHANNELS,
        kind="threads",
        options={"max_threads": 8, "heartbeat": 0.1},
    ),
    Attack(arriving.large_hellos, PENDING_CHANNELS + LEAVING_CHANNELS, HELLO, kind="messages"),
    Attack(arriving.half_closed_byes, arriving.CROWD + LEAVING_CHANNELS, options=FEW_CHANNELS),
    Attack(arriving.frequent_heartbeats, 50),
    Attack(sealed.key_updates, 2, ANSWERS + CHUNKS, options=TLS_ON),
    Attack(sealed.garbage_to_a_server, 8, HELLO, options=TLS_ON),
    Attack(sealed.garbage_to_a_client, 8, HELLO, options=TLS_ON),
    Attack(words.forged_reasons, 8, HELLO, logs=r"no\r\nERROR root: all is lost\x1b[2J"),
    Attack(words.forged_endings, 8, RESERVE + CHUNKS, logs=r"no\r\nERROR root: all is lost\x1b[2J"),
    Attack(words.random_bytes, 32, RESERVE + CHUNKS, POOL_BYTES),
)

ATTACKS = {attack.name: attack for attack in _ALL}

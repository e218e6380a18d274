"""The bounds that keep every operation finite, with the reasons for their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypedDict

from ..checks import checked_count, checked_number
from ..protocol.binary_header import HEADER_SIZE, MAX_PART
from ..transport.limits import WRITE_HIGH_WATER

LARGEST_MESSAGE: Final = HEADER_SIZE + 2 * MAX_PART
"""Bytes: 131,086."""

POOL_MESSAGES: Final = 1024
"""Received messages alive at once, over all channels of an engine, unless the user says other."""

POOL_BYTES: Final = 64 * LARGEST_MESSAGE
"""Bytes of them, likewise: 8 MiB and a little. So 64 messages may be alive whatever their size, and
1024 small ones: a pipeline of requests needs many, and they are small."""

CHANNEL_SHARE: Final = 0.5
"""The part of the pool, as far as others leave it, that one channel may hold: so one that is never
read leaves room for bursts of all others."""

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of a request or response that is longer than one message, unless the user says other."""

JOINING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of such bodies that an engine puts together at a time, likewise: four of the longest."""

OPEN_REQUESTS: Final = 1024
"""Requests of one peer that it sends in parts at the same time. Ours sends one after another."""

EXCHANGES_BEGUN: Final = 1024
"""Exchanges that this side has begun on a channel and that are not over. One more waits."""

EXCHANGES_SERVED: Final = 4 * EXCHANGES_BEGUN
"""Exchanges that the peer of a channel has begun, and that the application here has not left. One
more is refused. Our own clients begin fewer of several parts, but any number of plain requests, and
an application may take its time to leave one that its caller has given up."""

TAKEN_BACK: Final = 1024
"""Requests of one peer that were taken back after the application had received them, and that
``cancelled`` still knows: it only saves work that nobody wants any more."""

UNTAKEN_ANSWERS: Final = 64 * 1024
"""Bytes of answers that nobody waits for room with, refusals say or those of TLS itself, and that
the peer has not taken, beyond which its channel is not read: half of what ``send`` may queue."""

SHARE_MIN: Final = 0.001
"""Less would be one message whatever the pool."""

HELD_TOO_LONG: Final = 10.0
"""Seconds without a permit coming back, while channels wait, after which the log names who holds
them."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for resolving, connecting and Hello together."""

HELLO_TIMEOUT: Final = 10.0
"""Seconds that a new connection has to introduce itself before it is closed."""

DECISION_TIMEOUT: Final = CONNECT_TIMEOUT
"""Seconds that a listener may take to decide on a Hello: its sender waits no longer."""

BYE_TIMEOUT: Final = 5.0
"""Seconds that closing waits for a peer that neither answers nor takes what was sent."""

LINGER: Final = 1.0
"""Seconds that the peer has to hang up first, once our last word has left: the answer to its Bye,
or that it is refused. A reader of the Zig library that sees a hang-up before it has read drops what
is still in its socket, our last word and the messages before it."""

EVICTION_TIME: Final = LINGER + BYE_TIMEOUT
"""Seconds in which a channel that gives way is gone if its peer takes nothing. Of one that takes a
little now and then nobody knows when that will be."""

ACCEPTED_AT_ONCE: Final = 64
"""Connections that a listener accepts in one turn of the loop. Each is read a turn or two later, so
far fewer than may wait come in before a Hello that is here already has been seen."""

ACCEPT_RETRY: Final = 1.0
"""Seconds until accepting is tried again after it has failed, for want of descriptors say. Who
waits in the backlog notices no more than that."""

WARNINGS_QUIET: Final = 10.0
"""Seconds after a warning that connections are refused, say, without another one like it."""

PENDING_CHANNELS: Final = 128
"""Channels of one listener that the application has not accepted. A Hello needs no permit of the
pool; this bounds what those that nobody takes can hold."""

LEAVING_CHANNELS: Final = 128
"""Channels of one listener that take no place any more because only the peer's hanging up, or its
answer to a Bye, is waited for. When there are more the oldest is waited for no longer."""

WAITING_CONNECTIONS: Final = 1024
"""Connections of one listener that have not said Hello, or wait for a place. Each has a descriptor,
and up to ``EARLY_BYTES``."""

EARLY_BYTES: Final = 4096
"""What is read of a connection that waits for a place, and after its Hello while that is undecided:
enough for a Hello without a large body, so that its peer's leaving is noticed. When that much is
here, more stays in the kernel."""

SLOW_HELLO: Final = 1.0
"""Seconds that a Hello may take while others wait: several round trips of a slow line."""

IDLE_TIMEOUT_MIN: Final = 0.01
"""Seconds without a message after which a channel may be closed, at least."""

HEARTBEAT: Final = 20.0
"""Seconds between heartbeats over TCP, unless the user says other. A lost peer is noticed in about
a minute; and many load balancers forget a connection that is silent for a minute."""

HEARTBEAT_MIN: Final = 0.01
"""Seconds between heartbeats. Below it a loop's own hesitation would pass for silence."""

CLIENT_HEARTBEAT_MIN: Final = 1.0
"""Seconds between heartbeats, unless the listener itself asks for them more often. A channel that
beats every 10 ms takes 3 ms of a processor's time each second, and any client may ask."""

HEARTBEAT_MAX: Final = 86_400.0
"""A day, in seconds: what is rarer does not keep anything alive."""

HEARTBEATS_MISSED: Final = 3
"""Intervals without a sign of life after which a peer is lost. One may be late, two unlucky."""


BACKOFF_MIN: Final = 0.001
"""Seconds that the first wait of a client that cannot connect is bound by. Below it, it would do
nothing but try."""

BACKOFF_MAX: Final = 86_400.0
"""A day, in seconds: who tries more seldom has given up."""


class OtherLimits(TypedDict, total=False):
    """``EngineOptions`` but for ``pool_messages``, which ``Engine`` takes without its name too."""

    pool_bytes: int
    channel_share: float
    write_high_water: int
    write_low_water: int | None
    max_body: int
    joining_bytes: int


class EngineOptions(OtherLimits, total=False):
    """What an engine may hold.

    ``Engine`` takes them, and so do ``connect``, ``reconnecting`` and ``serve``, which make an
    engine of their own.

    Attributes:
        pool_messages: how many received messages may be alive at once, over all channels; 1024 by
            default. While they are, channels are not read, and their peers feel it. At least 1.
        pool_bytes: how many bytes they may have together, headers included; 8389504 by default,
            and at least 131,086, which the longest message has. A message that is longer than
            ``pool_bytes / pool_messages`` counts as several, so that neither bound is ever passed.
            ``docs/design/messaging.md`` has the whole bound of the memory.
        channel_share: the part of the pool, as far as other channels leave it, that the messages of
            one channel may hold; up to 1, all of it, and 0.5 by default. With 0.5 a channel that
            never gives anything back takes half of what is there, the next one half of the rest,
            and so on. Beside the pool each channel has a reserve, room for one message, which
            nobody else can take.
        write_high_water: bytes that wait to be sent on a channel before ``send`` waits too; 131072
            by default.
        write_low_water: bytes at which it goes on; by default a quarter of that.
        max_body: bytes of the longest body that a peer's ``request`` or ``reply`` may send here;
            16777216 by default, and at least 65,535. A longer one fails with the status
            INVALID_BODY_LEN.
        joining_bytes: bytes of all bodies that take more than one message, while their parts are
            put together, and of such requests until they are released; 67108864 by default, and
            at least 65,535. Beyond it the newest fails at once with the status ALLOCATION_FAILED:
            waiting could stop all of them.
    """

    pool_messages: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The same, checked, with the defaults.

    Raises:
        TypeError, ValueError: one makes no sense: the message says which.
    """

    pool_messages: int = POOL_MESSAGES
    pool_bytes: int = POOL_BYTES
    channel_share: float = CHANNEL_SHARE
    write_high_water: int = WRITE_HIGH_WATER
    write_low_water: int | None = None
    max_body: int = MAX_BODY
    joining_bytes: int = JOINING_BYTES

    def __post_init__(self) -> None:
        checked_count("pool_bytes", self.pool_bytes, LARGEST_MESSAGE)
        # More could never be alive: each has its header.
        checked_count("pool_messages", self.pool_messages, 1, self.pool_bytes // HEADER_SIZE)
        checked_number("channel_share", self.channel_share, SHARE_MIN, 1)
        checked_count("write_high_water", self.write_high_water)
        if self.write_low_water is not None:
            checked_count("write_low_water", self.write_low_water, 0, self.write_high_water)
        checked_count("max_body", self.max_body, MAX_PART)
        checked_count("joining_bytes", self.joining_bytes, MAX_PART)

    @property
    def unit(self) -> int:
        """Bytes of a message for each permit that it takes: so both bounds of the pool hold."""
        return self.pool_bytes // self.pool_messages

    @property
    def water(self) -> tuple[int, int]:
        """The high and the low water mark; the low one is a quarter, as in asyncio."""
        low = self.write_low_water
        return self.write_high_water, self.write_high_water // 4 if low is None else low

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
"""Default for the received messages that may be alive at once, over all channels of an engine."""

POOL_BYTES: Final = 64 * LARGEST_MESSAGE
"""Default for their bytes: a little more than 8 MiB. So 64 messages may be alive whatever their
size, or 1024 small ones: a pipeline of requests needs many, and they are small."""

CHANNEL_SHARE: Final = 0.5
"""The part of the pool, after what other channels hold, that one channel may hold. A channel that
is never read so leaves room for bursts of all others."""

MAX_BODY: Final = 16 * 1024 * 1024
"""Default for the bytes of a request or response that is longer than one message."""

JOINING_BYTES: Final = 64 * 1024 * 1024
"""Default for the bytes of such bodies that an engine joins at a time: four of the longest."""

OPEN_REQUESTS: Final = 1024
"""Requests that one peer may send in parts at the same time. This library sends one after
another."""

EXCHANGES_BEGUN: Final = 1024
"""Exchanges that this side has begun on a channel and that are not over. One more waits."""

EXCHANGES_SERVED: Final = 4 * EXCHANGES_BEGUN
"""Exchanges that the peer of a channel has begun, and that the application here has not left. One
more is refused. Clients with this library begin fewer exchanges, but any number of plain requests,
and an application may be slow to leave an exchange that its peer has cancelled."""

TAKEN_BACK: Final = 1024
"""Requests of one peer that were cancelled after the application had received them, and that
``cancelled`` still knows. Forgetting one has no effect except that work on it is not saved."""

UNTAKEN_ANSWERS: Final = 64 * 1024
"""Bytes of automatic answers, for example refusals or those of TLS itself, that the peer has not
taken, beyond which its channel is not read. No sender waits for room with them. It is half of what
``send`` may queue."""

SHARE_MIN: Final = 0.001
"""The smallest ``channel_share``. Less would be one message, whatever the pool."""

HELD_TOO_LONG: Final = 10.0
"""Seconds that channels wait while no permit comes back, after which the log names the messages
that hold the permits."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for resolving the host, connecting and the Hello together."""

HELLO_TIMEOUT: Final = 10.0
"""Seconds that a new connection has to send its Hello before it is closed."""

DECISION_TIMEOUT: Final = CONNECT_TIMEOUT
"""Seconds that a listener may take to decide on a Hello: its sender waits no longer."""

DRAIN_TIMEOUT: Final = 30.0
"""Seconds that draining a listener waits for its channels to be closed."""

BYE_TIMEOUT: Final = 5.0
"""Seconds that closing waits for a peer that neither answers nor takes what was sent."""

LINGER: Final = 1.0
"""Seconds that the peer has to close first, once the last frame of this side has left: the answer
to the peer's Bye, or a refusal. If a reader of the Zig library sees the connection closed before it
has read everything, it drops what is still in its socket: the last frame and the messages before
it."""

EVICTION_TIME: Final = LINGER + BYE_TIMEOUT
"""Seconds in which an evicted channel is closed if its peer takes nothing. There is no such bound
for a peer that takes a little now and then."""

PENDING_CHANNELS: Final = 128
"""Channels of one listener that the application has not accepted. A Hello needs no permit of the
pool, so this bounds the memory of Hellos that the application does not take."""

LEAVING_CHANNELS: Final = 128
"""Closing channels of one listener that do not count towards its limit, because only the peer has
to close or to answer a Bye. When there are more, the oldest is closed at once."""

WAITING_CONNECTIONS: Final = 1024
"""Connections of one listener that have not sent a Hello, or wait for a channel to close. Each has
a descriptor, and up to ``EARLY_BYTES``."""

EARLY_BYTES: Final = 4096
"""Bytes that are read of a connection that waits for a channel to close, or whose Hello is
undecided. They are enough for a Hello without a large body, and reading notices when the peer
closes. Once they have arrived, more stays in the kernel."""

SLOW_HELLO: Final = 1.0
"""Seconds that a Hello may take while other connections wait: several round trips of a slow
line."""

IDLE_TIMEOUT_MIN: Final = 0.01
"""The smallest ``idle_timeout``, in seconds."""

HEARTBEAT: Final = 20.0
"""Default for the seconds between heartbeats over TCP. A lost peer is noticed in about a minute,
and many load balancers forget a connection that is silent for a minute."""

HEARTBEAT_MIN: Final = 0.01
"""The shortest interval of heartbeats, in seconds. With less, a delay of the loop itself would be
taken for the peer's silence."""

CLIENT_HEARTBEAT_MIN: Final = 1.0
"""The shortest interval that a client can get, in seconds, unless the listener itself asks for a
shorter one. A channel that sends a heartbeat every 10 ms takes 3 ms of a processor's time each
second, and any client may ask for it."""

HEARTBEAT_MAX: Final = 86_400.0
"""The longest interval of heartbeats, in seconds: a day. Rarer ones keep no connection alive."""

HEARTBEATS_MISSED: Final = 3
"""Intervals without a sign of life after which a peer is lost. One heartbeat may be late, and two
may be bad luck."""


BACKOFF_MIN: Final = 0.001
"""The smallest bound of the waits between attempts to connect, in seconds. With less, a client that
cannot connect would do nothing but try."""

BACKOFF_MAX: Final = 86_400.0
"""The highest bound of the waits between attempts to connect, in seconds: a day."""


class OtherLimits(TypedDict, total=False):
    """``EngineOptions`` without ``pool_messages``, which ``Engine`` also takes by position."""

    pool_bytes: int
    channel_share: float
    write_high_water: int
    write_low_water: int | None
    max_body: int
    joining_bytes: int


class EngineOptions(OtherLimits, total=False):
    """The limits of an engine.

    ``Engine`` takes them, and so do ``connect``, ``reconnecting`` and ``serve``, which make an
    engine of their own.

    Attributes:
        pool_messages: how many received messages may be alive at once, over all channels. At
            least 1; 1024 by default. Once the limit is reached, channels are not read, which slows
            their peers down, until messages are released.
        pool_bytes: how many bytes these messages may have together, headers included. At least
            131,086, the length of the longest message; 8389504 by default. A message that is
            longer than ``pool_bytes / pool_messages`` counts as several, so that neither limit is
            ever exceeded. ``docs/design/messaging.md`` gives the bound of the whole memory.
        channel_share: the part of the pool, after what other channels hold, that the messages of
            one channel may hold: 0.001 to 1, where 1 is all of it; 0.5 by default. With 0.5 a
            channel that never releases anything takes half of the pool, the next one half of the
            rest, and so on. In addition each channel has a reserve, room for one message, which no
            other channel can take.
        write_high_water: how many bytes may wait to be sent on a channel before ``send`` waits.
            At least 1; 131072 by default.
        write_low_water: at how many waiting bytes ``send`` goes on: 0 to ``write_high_water``. By
            default, and with None, a quarter of ``write_high_water``.
        max_body: the length in bytes of the longest body that a peer's ``request`` or ``reply``
            may send here. At least 65,535; 16777216 by default. A longer one fails with the status
            INVALID_BODY_LEN.
        joining_bytes: how many bytes all bodies of more than one message may have together, while
            their parts are joined, and for requests until they are released. At least 65,535;
            67108864 by default. Once it is reached, the newest body fails at once with the status
            ALLOCATION_FAILED: if it waited, all of them could wait for each other.
    """

    pool_messages: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an engine, checked, with their defaults.

    Raises:
        TypeError, ValueError: a limit has the wrong type or is out of range. The message names it.
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
        # More could never be alive, because each message has a header.
        checked_count("pool_messages", self.pool_messages, 1, self.pool_bytes // HEADER_SIZE)
        checked_number("channel_share", self.channel_share, SHARE_MIN, 1)
        checked_count("write_high_water", self.write_high_water)
        if self.write_low_water is not None:
            checked_count("write_low_water", self.write_low_water, 0, self.write_high_water)
        checked_count("max_body", self.max_body, MAX_PART)
        checked_count("joining_bytes", self.joining_bytes, MAX_PART)

    @property
    def unit(self) -> int:
        """Bytes of a message for each permit that it takes, so that both limits hold."""
        return self.pool_bytes // self.pool_messages

    @property
    def water(self) -> tuple[int, int]:
        """The high-water mark and the low-water mark, by default a quarter of it as in asyncio."""
        low = self.write_low_water
        return self.write_high_water, self.write_high_water // 4 if low is None else low

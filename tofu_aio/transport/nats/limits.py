"""Limits of channels over NATS, with the reasons for their values."""

from __future__ import annotations

from typing import Final

MIN_WINDOW: Final = 4 * 1024
"""Bytes of credit that each channel can always have, however many there are."""

FIRST_WINDOW: Final = 16 * 1024
"""Bytes of credit that a channel begins with. Most channels never use more at once."""

MAX_WINDOW: Final = 256 * 1024
"""Bytes that the broker, and the buffers of the receiver, hold of one channel in one direction.
The window of a channel doubles, up to this, each time that its sender has used half of it."""

BUDGET: Final = 32 * 1024 * 1024
"""Bytes of credit that the channels of one connection to the broker may have unused together,
apart from ``MIN_WINDOW`` for each. The broker closes a connection for which more than its
``max_pending`` waits, 64 MiB by default: that cannot happen with fewer than 8,000 channels."""

CHUNK_COST: Final = 64
"""Bytes of credit that a chunk takes beside its payload, so that short chunks are bounded too."""

SMALLEST_PIECE: Final = 1024
"""Bytes below which a piece of what is buffered is not sent alone: more credit is on its way."""

BROKER_TIMEOUT: Final = 3
"""Seconds in which a broker has to accept the connection, and then to answer each time."""

BROKER_DELAY: Final = 0.5
"""Seconds without success after which the next broker of an address is tried as well. Connecting
takes five round trips, or seven with TLS: a broker at the other end of the world is not passed
over."""

PING_INTERVAL: Final = 10
"""Seconds between the pings to the broker. A frozen broker is noticed after two in vain."""

PROBE_INTERVAL: Final = 2.0
"""Seconds between the probes of each process that this one has channels with. One that has ended is
noticed within that time, without heartbeats too."""

PROBE_RATE: Final = 500
"""Probes per second at most: the rest of a round comes an interval later, so that with more than
1,000 peers each has its turn less often."""

SOCKET_BUFFER: Final = 512 * 1024
"""Bytes in the buffer of the socket to the broker beyond which channels keep the rest."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that closing the connection waits for a broker that takes nothing."""

CLOSE_LONGEST: Final = 5
"""Seconds that the last bytes of channels may take to reach the broker when the connection is
closed. As long may they take to leave for the peer when a TCP channel is closed."""

REJOIN_PAUSES: Final = (0.1, 5.0)
"""Seconds between a listener's attempts to reach a broker again: the first, and the longest."""

DECLINED: Final = 3
"""Listeners that may decline a client in a row before it waits a moment. One declines while the
news that it has left is still on its way through a cluster."""

DECLINED_PAUSE: Final = 0.02
"""Seconds of that moment."""

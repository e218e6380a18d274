"""The bounds of transports, with the reasons for their sizes."""

from __future__ import annotations

from typing import Final

TLS_ANSWERS: Final = 16 * 1024
"""Bytes that TLS itself may have to say to a peer after the handshake, beside one for every
``TLS_DATA`` that have come. Beyond that the connection fails. They are the answers to 600
KeyUpdates. A peer asks for new keys with 27 bytes, and to make them takes as long as to decrypt 50
KiB: without a bound one that asks for nothing else would keep the loop busy."""

TLS_DATA: Final = 64
"""Likewise: with every MiB that comes another 600 KeyUpdates are answered."""

LOOKUPS: Final = 32
"""Names that a process looks up at once, each in a thread. One whose name server does not answer
keeps its thread until the resolver gives up, half a minute say, also when nobody waits for it."""

ATTEMPT_DELAY: Final = 0.25
"""Seconds that the addresses of a host get before the next one is tried too (RFC 8305, 8)."""

CHURN_PAUSES: Final = (0.02, 0.08, 0.2)
"""Seconds between attempts at what fails when many sockets come and go, and then does not."""

KEEPALIVE_PROBES: Final = 3
"""Questions of the kernel's without an answer after which a connection is lost."""

UNIX_BACKLOG_RETRY: Final = 0.01
"""Seconds between attempts while a Unix listener's backlog is full: the kernel does not queue."""

LISTEN_BACKLOG: Final = 1024
"""Connections that the kernel completes ahead of accept(2); it caps this at its somaxconn."""

KEEPALIVE_MIN: Final = 0.01
"""Seconds of silence before the kernel asks; it counts in whole ones, and is given the next."""

KEEPALIVE_MAX: Final = 32_767.0
"""Seconds; more the kernel does not take (Linux, ``MAX_TCP_KEEPIDLE``)."""

WRITE_HIGH_WATER: Final = 128 * 1024
"""Bytes that wait to be sent on one channel before ``send`` waits too: near the largest message.
Twice as much is written at once, as much as is read at once: with less, large bodies are slower."""

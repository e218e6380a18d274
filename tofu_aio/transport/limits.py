"""Limits of the transports, with the reasons for their values."""

from __future__ import annotations

from typing import Final

TLS_ANSWERS: Final = 16 * 1024
"""Bytes that TLS itself may send to a peer after the handshake, in addition to one byte for every
``TLS_DATA`` bytes received. Beyond that the connection fails. The allowance covers the answers to
600 KeyUpdates. A KeyUpdate that requests new keys takes the peer 27 bytes, and making the keys
takes as long as decrypting 50 KiB: without a limit, a peer could keep the loop busy with them."""

TLS_DATA: Final = 64
"""Bytes received for each further byte that TLS may send: 600 KeyUpdates for every MiB."""

LOOKUPS: Final = 32
"""Host names that a process looks up at the same time, each in a thread. If the name server does
not answer, the thread stays busy until the resolver gives up (typically after half a minute), even
if nothing waits for the result any more."""

ATTEMPT_DELAY: Final = 0.25
"""Seconds to wait for an attempt to connect before the next address is tried too (RFC 8305, 8)."""

CHURN_PAUSES: Final = (0.02, 0.08, 0.2)
"""Seconds between attempts after errors that are common, and temporary, while many sockets are
opened and closed."""

KEEPALIVE_PROBES: Final = 3
"""Unanswered keep-alive probes after which the kernel reports a connection as lost."""

UNIX_BACKLOG_RETRY: Final = 0.01
"""Seconds between attempts while a Unix listener's backlog is full: a non-blocking connect(2) fails
then, instead of waiting for room."""

LISTEN_BACKLOG: Final = 1024
"""Connections that the kernel completes ahead of accept(2); it caps this at its somaxconn."""

KEEPALIVE_MIN: Final = 0.01
"""Seconds of silence before the first probe. The kernel counts whole seconds: this is rounded
up."""

KEEPALIVE_MAX: Final = 32_767.0
"""Seconds; the kernel refuses more (Linux, ``MAX_TCP_KEEPIDLE``)."""

WRITE_HIGH_WATER: Final = 128 * 1024
"""The high-water mark: bytes queued on one channel above which ``send`` waits. It is close to the
size of the largest message. Writes and reads are twice as large: with less, large bodies are
slower."""

ACCEPTED_AT_ONCE: Final = 64
"""Connections that a listener accepts in one turn of the loop. Each is read a turn or two later. So
when a Hello that has arrived already is read, far fewer connections have been accepted than may
wait."""

ACCEPT_RETRY: Final = 1.0
"""Seconds until accepting is tried again after it has failed, for example for lack of descriptors.
Connections in the backlog are delayed by no more than that."""

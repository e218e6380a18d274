"""The bounds that keep every operation finite, with the reasons for their sizes."""

from __future__ import annotations

import math
from typing import Final

POOL_MESSAGES: Final = 64
"""Received messages alive at once, over all channels of an engine, unless the user says more."""

WRITE_HIGH_WATER: Final = 64 * 1024
"""Bytes that wait to be sent on one channel before ``send`` waits too. One large message."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for resolving, connecting and Hello together."""

HELLO_TIMEOUT: Final = 10.0
"""Seconds that a new connection has to introduce itself before it is closed."""

DECISION_TIMEOUT: Final = CONNECT_TIMEOUT
"""Seconds that a listener may take to decide on a Hello: its sender waits no longer."""

BYE_TIMEOUT: Final = 5.0
"""Seconds that closing waits for the peer before it resets the connection."""

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

PENDING_CHANNELS: Final = 128
"""Channels of one listener that the application has not accepted. A Hello needs no permit of the
pool; this bounds what those that nobody takes can hold."""

WAITING_CONNECTIONS: Final = 1024
"""Connections of one listener that are silent, or wait for a place. Each has a descriptor."""

EARLY_BYTES: Final = 4096
"""What is read of a connection that waits for a place: enough for a Hello without a large body, so
that its peer's leaving is noticed. More stays in the kernel."""

SILENCE: Final = 1.0
"""Seconds that a Hello may take while others wait: several round trips of a slow line."""

KEEPALIVE_MIN: Final = 0.01
"""Seconds of silence before the kernel asks; it counts in whole ones, and is given the next."""

KEEPALIVE_MAX: Final = 32_767.0
"""Seconds; more the kernel does not take (Linux, ``MAX_TCP_KEEPIDLE``)."""

HEARTBEAT_MIN: Final = 0.01
"""Seconds between heartbeats. Below it a loop's own hesitation would pass for silence."""

HEARTBEAT_MAX: Final = 86_400.0
"""A day, in seconds: what is rarer does not keep anything alive."""

HEARTBEATS_MISSED: Final = 3
"""Intervals without a sign of life after which a peer is lost. One may be late, two unlucky."""


BACKOFF_MIN: Final = 0.001
"""Seconds that the first wait of a client that cannot connect is bound by. Below it, it would do
nothing but try."""

BACKOFF_MAX: Final = 86_400.0
"""A day, in seconds: who tries more seldom has given up."""


def checked_seconds(name: str, value: float, least: float = 0.0, most: float = math.inf) -> float:
    """A time that can be waited for.

    Raises:
        As ``checked_number``.
    """
    return checked_number(name, value, least, most, " seconds")


def checked_number(name: str, value: float, least: float, most: float, unit: str = "") -> float:
    """A number within bounds.

    Raises:
        TypeError: it is no number; True and False are none.
        ValueError: it is below ``least``, above ``most``, or nan.
    """
    right = (f"{least:g} or more" if most == math.inf else f"{least:g} to {most:.7g}") + unit
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number: give {right}")
    if not least <= value <= most:  # so put, nan fails too
        raise ValueError(f"{name} is {value!r}: give {right}")
    return value


def checked_count(name: str, value: int) -> int:
    """How many there may be of something that is needed.

    Raises:
        TypeError: it is no whole number; True and False are none.
        ValueError: it is less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, no whole number: give 1 or more")
    if value < 1:
        raise ValueError(f"{name} is {value}: give 1 or more")
    return value


def checked_function(name: str, value: object) -> None:
    """Something that can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} is {value!r}: give a function")

"""The times that these tests use."""

from __future__ import annotations

from typing import Final

import tofu_aio as tofu

PATIENCE: Final = 30.0
"""Seconds after which a test says what it waits for in vain. Nothing is timed by it."""

HEARTBEAT: Final = 1.0
"""Seconds between heartbeats: the shortest that a client gets from any listener. A peer is lost
after three of them. TCP repeats a lost packet after 0.2, 0.6 and 1.4 seconds."""

KEEPALIVE: Final = 1.0
"""Seconds: the kernel knows nothing shorter."""

ATTEMPT: Final = 2.0
"""Seconds for an attempt to connect. TCP repeats the first packet after one."""

BACKOFF: Final = tofu.Backoff(0.1, 0.5)
"""Between attempts."""

DEADLINE: Final = 2.0
"""Seconds that a call waits which nobody will answer."""

DRAIN: Final = 1.0
"""Seconds that a service waits for running calls."""

SLACK: Final = 5.0
"""Seconds that a busy machine may take beyond a deadline that is checked."""

"""The transports are tested through channels, with the fixtures of the messaging tests."""

from __future__ import annotations

from tests.messaging.conftest import (
    both_ends,
    listener,
    nothing_goes_unheard,
    pair,
    raw_server,
    tcp_pair,
)

__all__ = [
    "both_ends",
    "listener",
    "nothing_goes_unheard",
    "pair",
    "raw_server",
    "tcp_pair",
]

"""What an attack may make of a server's memory: the terms of the documentation's formula.

They are those of docs/howto/backpressure.md, as far as an attack can reach them, and what is
allowed for what the formula leaves out: the objects around the bytes.
"""

from __future__ import annotations

from typing import Final

from tofu_aio.messaging.limits import (
    EXCHANGES_SERVED,
    LARGEST_MESSAGE,
    UNTAKEN_ANSWERS,
    WRITE_HIGH_WATER,
)
from tofu_aio.protocol import account

CHUNK: Final = 256 * 1024
"""Bytes that are read from a socket at a time."""

RESERVE: Final = LARGEST_MESSAGE
CHUNKS: Final = 2 * CHUNK
HELLO: Final = LARGEST_MESSAGE
LENT: Final = account.LENT * LARGEST_MESSAGE
UNSENT: Final = 2 * WRITE_HIGH_WATER + LARGEST_MESSAGE
ANSWERS: Final = UNTAKEN_ANSWERS
EXCHANGES: Final = EXCHANGES_SERVED * 3 * 1024
"""Bytes for each channel."""

PARSED: Final = 4 * 1_400_000
"""Bytes of the headers that are remembered as names and values, over all channels."""

CONNECTION: Final = 16 * 1024
"""Bytes allowed for the objects of a connection: the transport, the channel, its task."""

TLS: Final = 128 * 1024
"""Bytes allowed for what OpenSSL has of a connection."""

SLACK: Final = 4 * 1024 * 1024
"""Bytes allowed for what allocators keep, and for modules that are loaded late."""

TLS_SLACK: Final = 4 * 1024 * 1024
"""Bytes allowed beside that where TLS connections come and go by the thousand: what OpenSSL
gives back leaves holes in the C library's heap."""

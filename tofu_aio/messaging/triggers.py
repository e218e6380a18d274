"""What a channel waits for."""

from __future__ import annotations

from enum import Flag, auto


class Triggers(Flag):
    """What a channel waits for. Several may hold at once."""

    ACCEPT = auto()
    """The application's decision: the peer's Hello is not answered yet."""
    SEND = auto()
    """Room: bytes wait to be sent."""
    RECV = auto()
    """The peer's next message."""
    POOL = auto()
    """A permit of the pool. Until it gets one, the channel is not read."""
    ERROR = auto()
    """Nothing: the peer was lost, or broke the protocol."""

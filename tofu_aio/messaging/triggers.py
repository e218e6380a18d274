"""What a channel wants or got, in the program's words."""

from __future__ import annotations

from enum import Flag, auto


class Triggers(Flag):
    """The reasons for which a channel is looked at. Several may hold at once."""

    ACCEPT = auto()
    """The application decides: its Hello is not answered yet."""
    SEND = auto()
    """Room: something waits to be sent."""
    RECV = auto()
    """The peer's next message."""
    POOL = auto()
    """A permit of the pool: until then it is not read."""
    ERROR = auto()
    """Its peer was lost, or broke the protocol."""

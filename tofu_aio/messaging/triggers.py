"""What a channel wants or got, in the program's words."""

from __future__ import annotations

from enum import Flag, auto


class Triggers(Flag):
    """The reasons for which a channel is looked at. Several may hold at once."""

    NOTIFY = auto()
    ACCEPT = auto()
    CONNECT = auto()
    SEND = auto()
    RECV = auto()
    POOL = auto()
    ERROR = auto()
    TIMEOUT = auto()

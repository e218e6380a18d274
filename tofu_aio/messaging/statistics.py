"""What an engine and a channel tell about themselves: immutable snapshots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """An engine at one moment.

    Attributes:
        pool_size: permits in all.
        pool_free: permits not taken. The others are held by received messages, by those of which
            only a part has arrived, and by those that ``get(Allocation.POOL_ONLY)`` made.
        waiting: channels that wait for a permit now.
        suspensions: how often a channel began to wait for a permit.
        channels: channels and listeners that are open.
    """

    pool_size: int
    pool_free: int
    waiting: int
    suspensions: int
    channels: int


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A channel at one moment.

    Attributes:
        received: messages that arrived, control messages among them.
        sent: messages accepted for sending, control messages among them.
        queued_bytes: bytes that wait to be sent.
        suspensions: how often this channel began to wait for a permit.
        late_responses: responses dropped because their request was cancelled or timed out, and
            parts dropped because their exchange was left.
    """

    received: int
    sent: int
    queued_bytes: int
    suspensions: int
    late_responses: int

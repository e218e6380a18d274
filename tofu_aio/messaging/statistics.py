"""What an engine and a channel tell about themselves: immutable snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from .triggers import Triggers


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """An engine at one moment.

    Always ``pool_size + reserves == pool_free + inbox + application + outgoing``: what is alive
    holds a permit of the pool for each unit of its length, or its channel's reserve.

    Attributes:
        pool_size: permits in all.
        pool_free: permits that nobody has.
        reserves: messages that are alive beside the pool: one for each channel whose reserve is in
            use, and what was lent while the application waits for the next message, one more for
            each loop that waits.
        inbox: permits and reserves of messages that nobody has received yet, or that have arrived
            in part.
        application: those of messages that were received and not released, those among them that
            wait in an exchange, and of those that ``get(Allocation.POOL_ONLY)`` made.
        outgoing: those of received messages that wait to be sent on.
        awaited: requests under way, whose responses will take neither.
        joining_bytes: bytes of bodies that are too long for one message: while their parts are put
            together, and of such requests until they are released.
        held_bytes: bytes of messages that wait to be received or sent, whole or in part. Those
            that the application has received are its own.
        waiting: channels that wait for permits now.
        over_share: channels that wait until fewer of their own messages are alive.
        suspensions: how often a channel began to wait for permits.
        longest_wait: seconds; the longest that a channel has ever waited, or waits now. It never
            falls.
        channels: channels and listeners that are open.
        refused: connections that listeners have refused, because too many waited, or came from one
            address, or no channel number was left. It never falls.
    """

    pool_size: int
    pool_free: int
    reserves: int
    inbox: int
    application: int
    outgoing: int
    awaited: int
    held_bytes: int
    joining_bytes: int
    waiting: int
    over_share: int
    suspensions: int
    longest_wait: float
    channels: int
    refused: int


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A channel at one moment.

    Attributes:
        received: messages that arrived, control messages among them.
        sent: messages accepted for sending, control messages among them.
        queued_bytes: bytes that wait to be sent.
        held: permits of the pool that its messages hold, wherever they are, and the reserve.
        awaited: requests under way.
        suspended: it waits for permits now, and is not read.
        suspended_for: seconds for which it has waited in all.
        suspensions: how often it began to wait for permits.
        late_responses: parts of responses dropped because nobody waits for them: their request was
            cancelled or timed out, their exchange was left, or there never was one.
        triggers: what it waits for.
    """

    received: int
    sent: int
    queued_bytes: int
    held: int
    awaited: int
    suspended: bool
    suspended_for: float
    suspensions: int
    late_responses: int
    triggers: Triggers

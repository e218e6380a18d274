"""Statistics of an engine and of a channel: immutable snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from .triggers import Triggers


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """An engine at one moment.

    Always ``pool_size + reserves == pool_free + inbox + application + outgoing``: a living message
    holds a permit of the pool for each unit of its length, or its channel's reserve.

    Attributes:
        pool_size: permits in all.
        pool_free: free permits.
        reserves: messages that are alive without permits of the pool: one for each channel whose
            reserve is in use, and one for each lent message, which the application keeps while it
            waits for the channel's next one: up to four for each channel, and two more for each
            exchange.
        inbox: permits and reserves held by messages that were not received yet, or that have
            arrived in part.
        application: those held by messages that were received and not released, including parts
            that wait in an exchange, and by messages that ``get(Allocation.POOL_ONLY)`` made.
        outgoing: those held by received messages that wait to be sent on.
        awaited: requests in flight. Their responses will take neither permits nor reserves.
        held_bytes: bytes of messages that wait to be received or sent, whole or in part. Messages
            that the application has received do not count.
        joining_bytes: bytes of bodies that are too long for one message: while their parts are
            joined, and for requests until they are released.
        waiting: channels that wait for permits now.
        over_share: channels that have used up their share of the pool, and wait until fewer of
            their own messages are alive.
        suspensions: how often a channel began to wait for permits.
        longest_wait: the longest time in seconds that a channel has ever waited for permits, or
            has waited up to now. It never falls.
        channels: open channels and listeners.
        refused: connections that listeners have refused because too many waited, too many came
            from one address, or no channel number was left. It never falls.
        received: messages that have arrived, including control messages. It never falls, and nor
            do the following three.
        sent: messages accepted for sending, including control messages.
        received_bytes: bytes of frames, before TLS encrypts them: those that have arrived.
        sent_bytes: those that were given to the system, or to TLS.
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
    received: int
    sent: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A channel at one moment.

    Attributes:
        received: messages that have arrived, including control messages.
        sent: messages accepted for sending, including control messages.
        queued_bytes: bytes that wait to be sent.
        held: permits of the pool that its messages hold, wherever they are, and its reserve.
        awaited: requests in flight.
        suspended: whether it waits for permits now, so that it is not read.
        suspended_for: seconds for which it has waited for permits in all.
        suspensions: how often it began to wait for permits.
        late_responses: responses, or parts of them, that were dropped because their request was
            cancelled, timed out or failed, for example as the response was longer than
            ``max_body``; their exchange was left; or there never was such a request.
        triggers: what the channel waits for.
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

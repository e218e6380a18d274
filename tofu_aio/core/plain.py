"""The core in plain Python: base classes with slots, and methods as they are.

What each attribute means is said by the class that inherits it.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

F = TypeVar("F")


def fast(method: F) -> F:
    """Mark a method or function that the compiled core replaces. In plain Python it stays."""
    return method


def hand_over(**objects: tuple[object, ...]) -> None:
    """Give the compiled core what it cannot import: tables, constants, classes and functions."""


def counter(size: int = 0) -> deque[None]:
    """A number that any thread may change at any moment, as the length of a deque.

    Only these operations of a deque may be used: ``append``, ``pop``, ``extend`` by a tuple,
    ``clear``, ``rotate``, ``len`` and iteration. In the compiled core it is a number.
    """
    return deque((None,) * size)


Inbox = deque
"""The queue of received messages."""


class MessageFields:
    """See ``protocol.message.Message``."""

    __slots__ = (
        "__weakref__",
        "_permit",
        "_proto",
        "body",
        "channel_number",
        "headers",
        "message_id",
        "status",
    )


class PoolFields:
    """See ``protocol.pool.Pool``."""

    __slots__ = (
        "_on_release",
        "free",
        "parked",
        "reserves",
        "restored",
        "share",
        "size",
        "suspended",
        "to_lend",
        "unit",
        "waiters",
    )


class AccountFields:
    """See ``protocol.account.Account``."""

    __slots__ = ("bundled", "pool", "reserved", "taken")


class DecoderFields:
    """See ``protocol.undecoded.Undecoded`` and ``protocol.decoder.Decoder``."""

    __slots__ = (
        "_at",
        "_ended",
        "_header",
        "_number",
        "account",
        "arriving",
        "asked_id",
        "awaited_id",
        "exempt",
        "heartbeats",
        "needs",
        "offset",
        "special",
        "state",
        "violation",
        "waiting",
    )


class ExemptionsFields:
    """See ``protocol.exemptions.Exemptions``."""

    __slots__ = (
        "awaited",
        "drain_noted",
        "exchanges",
        "parts",
        "posted",
        "shared",
        "strays",
        "withdrawals",
    )


class QueueFields:
    """See ``messaging.connection.frame_queue.FrameQueue`` and ``SendQueue``."""

    __slots__ = (
        "_decoder",
        "_given",
        "_long",
        "_nbytes",
        "_owner",
        "_turn_taken",
        "_untaken",
        "_waiting",
        "_writing",
        "_written",
        "carried",
        "congested",
        "frames",
        "high_water",
        "number",
        "paused",
        "sent",
        "transport",
        "watched_from",
    )


class MailboxFields:
    """See ``messaging.delivery.mailbox.Mailbox``."""

    __slots__ = ("_make", "_receiver", "end", "items")


class ConnectionFields:
    """See ``messaging.connection.connection.Connection``."""

    __slots__ = (
        "_closing",
        "beat_after",
        "beat_arrived",
        "beat_before",
        "beat_sent",
        "beat_sent_at",
        "beat_silent",
        "beat_taken",
        "decoder",
        "end",
        "gate",
        "heartbeat",
        "loop",
        "peer_address",
        "peer_supports",
        "queue",
        "received",
        "sink",
        "suspension",
    )


class DispatcherFields:
    """See ``messaging.delivery.dispatcher.Dispatcher``."""

    __slots__ = (
        "_channel",
        "_connection",
        "_forget",
        "_introduced",
        "half_closed",
        "hello",
        "incoming",
        "mailbox",
        "peer",
        "pending",
    )


class PendingFields:
    """See ``messaging.delivery.pending_requests.PendingRequests``."""

    __slots__ = (
        "_connection",
        "_joins",
        "exchanges",
        "late",
        "posted",
        "requests",
        "slots",
        "warned",
    )


class GateFields:
    """See ``messaging.flow_control.read_gate.ReadGate``."""

    __slots__ = ("buffer", "received_bytes")


class ChannelFields:
    """See ``messaging.channel.Channel``."""

    __slots__ = (
        "_connection",
        "_deferred_sends",
        "_dispatcher",
        "_mailbox",
        "_queue",
        "_welcome",
    )

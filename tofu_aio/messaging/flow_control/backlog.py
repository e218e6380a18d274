"""Why a channel is not read, and what helps, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..exchange import Exchange

_NAMED: Final = 3
"""Exchanges that are named; the others are counted."""


def in_words(unread: int, exchanges: Sequence[Exchange], kept: int) -> str:
    """What a response waits behind, and what helps; empty if it waits behind nothing.

    Args:
        unread: how many messages wait to be received from the channel.
        exchanges: those with parts that wait to be received.
        kept: permits of messages that the application has received and keeps; 0 not to name them.
    """
    reasons, remedies = [], []
    if unread:
        reasons.append(f"{unread} messages before it were not received")
        remedies.append(
            "Receive them, with 'async for message in channel' in a task of its own, or have the "
            "peer send them on another channel"
        )
    if exchanges:
        parts = sum(len(exchange._unread) for exchange in exchanges)
        reasons.append(f"{parts} parts of {_named(exchanges)} before it were not received")
        remedies.append(
            "Receive the parts to the last one, or leave the exchange, as 'async with "
            "channel.stream(...) as exchange' does at its end"
        )
    if kept:
        reasons.append(f"the application keeps messages before it, which hold {kept} permits")
        remedies.append(
            "Release some of them, or give the engine more pool_messages or a larger channel_share"
        )
    if not reasons:
        return ""
    return f": the channel is not read, because {', and '.join(reasons)}. {'. '.join(remedies)}"


def _named(exchanges: Sequence[Exchange]) -> str:
    ids = [f"{exchange.message_id}" for exchange in exchanges]
    more = f" and {len(ids) - _NAMED} more" if ids[_NAMED:] else ""
    return f"exchange{'s' if ids[1:] else ''} {', '.join(ids[:_NAMED])}{more}"

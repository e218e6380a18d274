"""Which messages hold a pool's permits, for people to read when too many do for too long."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from ..protocol.message import Message
from ..protocol.pool import Pool
from .receipts import RECEIPTS

NAMED: Final = 5
"""Channels, and messages of each, that are named; the rest is counted."""


def held_by_application(pool: Pool, inbox: Iterable[Message]) -> dict[int, list[Message]]:
    """The living messages that hold permits and are in no inbox, by their channel.

    It looks at all objects of the program, for nobody keeps a list of them: that would cost
    something for each message, and this is asked when nothing moves any more.
    """
    waiting = {id(message) for message in inbox}
    held: dict[int, list[Message]] = defaultdict(list)
    for item in gc.get_objects():
        # Its type, for to ask a stranger's object what it is may run its code.
        if type(item) is Message and id(item) not in waiting:
            permit = getattr(item, "_permit", None)  # it may be being made
            if permit is not None and permit.pool is pool:
                held[item.channel_number].append(item)
    return held


def in_words(held: dict[int, list[Message]], now: float) -> str:
    """Who holds how much, the greediest first; in debug mode since when, and who received it."""
    channels = sorted(held.items(), key=lambda entry: -len(entry[1]))
    lines = [
        f"channel {number}: {len(messages)}, " + _some([_named(m, now) for m in messages])
        for number, messages in channels
    ]
    return "; ".join(lines[:NAMED]) + (f"; {len(lines) - NAMED} more" if lines[NAMED:] else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if names[NAMED:] else "")


def _named(message: Message, now: float) -> str:
    name = f"{message.op_code.name} {message.message_id}"
    receipt = RECEIPTS.get(message)
    if receipt is None:
        return name
    return f"{name} (received {now - receipt.time:.0f} s ago at {receipt.place})"

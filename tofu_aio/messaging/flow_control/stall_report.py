"""Which messages hold a pool's permits, in words, for the warning about a stall."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ...protocol.message import Message
from ...protocol.pool import Pool
from ..exchange import Exchange
from .receipts import RECEIPTS

NAMED: Final = 5
"""Channels, and messages or exchanges of each, that are named; the others are counted."""


@dataclass
class Held:
    """The messages of one channel that hold permits.

    Attributes:
        kept: messages that the application has received and keeps.
        parts: how many parts wait in an exchange, by its message id.
    """

    kept: list[Message] = field(default_factory=list)
    parts: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        """How many messages."""
        return len(self.kept) + self.parts.total()


def held_by_application(pool: Pool, inbox: Iterable[Message]) -> dict[int, Held]:
    """The living messages that hold permits and are in no inbox, by their channel.

    It searches all objects of the program. Keeping a list of messages would cost something for
    each of them, and this function is called only when nothing moves any more.
    """
    waiting = {id(message) for message in inbox}
    objects = gc.get_objects()
    # With type(), because isinstance() may run code of other objects.
    exchanges = [item for item in objects if type(item) is Exchange and _is_of(item, pool)]
    parts = {id(part) for exchange in exchanges for part in exchange._unread}
    held: dict[int, Held] = defaultdict(Held)
    for item in objects:
        if type(item) is Message and id(item) not in waiting:
            permit = getattr(item, "_permit", None)  # its __init__ may not be finished
            if permit is None or permit.pool is not pool:
                continue
            if id(item) in parts:
                held[item.channel_number].parts[item.message_id] += 1
            else:
                held[item.channel_number].kept.append(item)
    return held


def _is_of(exchange: Exchange, pool: Pool) -> bool:
    """Whether it is of this pool's engine. Those of others may change, in other threads."""
    connection = getattr(exchange, "_connection", None)  # its __init__ may not be finished
    return connection is not None and connection.gate.pool is pool


def in_words(held: Mapping[int, Held], shares: Mapping[int, int], now: float) -> str:
    """What each channel holds, the largest first; in debug mode also where and when received.

    Args:
        held: by channel.
        shares: how much each channel may hold that is over its share.
        now: by the loop's clock.
    """
    channels = sorted(held.items(), key=lambda entry: -len(entry[1]))
    lines = [
        f"channel {number}: {_of_channel(mine, now)}"
        + (f" (it may keep {shares[number]} and one on its reserve)" if number in shares else "")
        for number, mine in channels[:NAMED]
    ]
    return "; ".join(lines) + (f"; {len(channels) - NAMED} more" if channels[NAMED:] else "")


def _of_channel(held: Held, now: float) -> str:
    # In the order of their ids, because the collector returns objects in no order.
    kept = sorted(held.kept, key=lambda message: message.message_id)
    names = [_named(message, now) for message in kept]
    items = [f"{len(kept)}, {_first_few(names)}"] if kept else []
    if held.parts:
        exchanges = [f"{count} of exchange {number}" for number, count in held.parts.items()]
        items.append(f"parts that were not received, {_first_few(exchanges)}")
    return ", and ".join(items)


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if names[NAMED:] else "")


def _named(message: Message, now: float) -> str:
    name = f"{message.op_code.name} {message.message_id}"
    receipt = RECEIPTS.get(message)
    if receipt is None:
        return name
    return f"{name} (received {now - receipt.time:.0f} s ago at {receipt.place})"

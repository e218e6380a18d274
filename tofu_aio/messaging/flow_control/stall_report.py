"""Which messages hold a pool's permits, for people to read when too many do for too long."""

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
"""Channels, and messages or exchanges of each, that are named; the rest is counted."""


@dataclass
class Held:
    """Of one channel.

    Attributes:
        kept: messages that the application has received, and keeps.
        parts: how many wait in an exchange, by its message id.
    """

    kept: list[Message] = field(default_factory=list)
    parts: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        """How many messages."""
        return len(self.kept) + self.parts.total()


def held_by_application(pool: Pool, inbox: Iterable[Message]) -> dict[int, Held]:
    """The living messages that hold permits and are in no inbox, by their channel.

    It looks at all objects of the program, for nobody keeps a list of them: that would cost
    something for each message, and this is asked when nothing moves any more.
    """
    waiting = {id(message) for message in inbox}
    objects = gc.get_objects()
    # By type, for to ask a stranger's object what it is may run its code.
    exchanges = [item for item in objects if type(item) is Exchange]
    parts = {id(part) for exchange in exchanges for part in exchange.unread}
    held: dict[int, Held] = defaultdict(Held)
    for item in objects:
        if type(item) is Message and id(item) not in waiting:
            permit = getattr(item, "_permit", None)  # it may be being made
            if permit is None or permit.pool is not pool:
                continue
            if id(item) in parts:
                held[item.channel_number].parts[item.message_id] += 1
            else:
                held[item.channel_number].kept.append(item)
    return held


def in_words(held: Mapping[int, Held], shares: Mapping[int, int], now: float) -> str:
    """Who holds how much, the greediest first; in debug mode since when, and who received it.

    Args:
        held: by channel.
        shares: what each channel may hold that waits until it holds less.
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
    # As their sender has numbered them, for the collector knows no order.
    kept = sorted(held.kept, key=lambda message: message.message_id)
    said = [f"{len(kept)}, {_some([_named(message, now) for message in kept])}"] if kept else []
    if held.parts:
        exchanges = [f"{count} of exchange {number}" for number, count in held.parts.items()]
        said.append(f"parts that nobody has received, {_some(exchanges)}")
    return ", and ".join(said)


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if names[NAMED:] else "")


def _named(message: Message, now: float) -> str:
    name = f"{message.op_code.name} {message.message_id}"
    receipt = RECEIPTS.get(message)
    if receipt is None:
        return name
    return f"{name} (received {now - receipt.time:.0f} s ago at {receipt.place})"

"""A subscription, as its client receives it: it goes on after the loss of a channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, NamedTuple, TypeVar

from ..messaging.backoff import Backoff
from ..messaging.exchange import Exchange
from ..messaging.reconnecting import is_certificate_refused
from ..protocol.errors import (
    ChannelEnded,
    ConnectFailed,
    InvalidMessage,
    PeerDisconnected,
    TofuError,
    UdsPathNotFound,
)
from ..protocol.status import LEFT
from ..protocol.text_headers import TextHeaders
from .cursor import Event
from .errors import UNAVAILABLE, ServiceError
from .headers import EPOCH, SEQUENCE
from .items import Items
from .payloads import Codecs

logger = logging.getLogger("tofu_aio.reconnect")

T = TypeVar("T")

_MAX_NUMBER: Final = 10**18
"""No publisher gets as far. A larger number is a mistake."""

_BROKEN_OFF: Final = LEFT.name.lower()
"""The code of an exchange that was left without a reason, for example because its service ends."""


class Opening(NamedTuple):
    """How a subscription is made.

    Attributes:
        name: of the topic.
        exchange: makes an exchange with the topic, on any of the client's addresses.
        codecs: encode the request, and decode the messages.
        max_body: the longest acceptable message, in bytes.
        backoff: the bounds of the waits between attempts.
    """

    name: str
    exchange: Callable[[], AbstractAsyncContextManager[Exchange]]
    codecs: Codecs
    max_body: int
    backoff: Backoff


class Subscription(Generic[T]):
    """What a subscriber has seen, and how it gets more.

    Args:
        opening: how it is made.
        item: the type of the values.
        after: the number of the last message that the subscriber has; None to begin now.
        epoch: the epoch of that message; "" if it is not known.
    """

    def __init__(self, opening: Opening, item: type[T], after: int | None, epoch: str) -> None:
        self._opening = opening
        self._item = item
        self._after = after
        self._epoch = epoch
        self._restarted = False
        self._failures = 0  # since the last event

    async def events(self) -> AsyncGenerator[Event[T]]:
        """The events, over one channel after another, until the topic is closed.

        Raises:
            TofuError: another attempt would not help.
        """
        while True:
            try:
                async with self._opening.exchange() as exchange:
                    items = await self._begun(exchange)
                    while True:
                        try:
                            headers, body = await items.take()
                        except StopAsyncIteration:
                            return
                        yield self._event(items, headers, body)
            except TofuError as error:
                if not _may_pass(error):
                    raise
                if not self._failures:
                    logger.warning(
                        "no subscription to %r, trying until there is one: %s",
                        self._opening.name,
                        error,
                    )
            await asyncio.sleep(self._opening.backoff.wait(self._failures))
            self._failures += 1

    async def _begun(self, exchange: Exchange) -> Items[T]:
        """Subscribe, and note from where the publisher goes on."""
        codecs = self._opening.codecs
        start = {"after": self._after, "epoch": self._epoch}
        content_type, body = codecs.encode(codecs.own, start)
        await exchange.finish(body, codecs.headers(content_type))
        items = Items(exchange, codecs, self._item, self._opening.max_body)
        try:
            headers, _ = await items.take()
        except StopAsyncIteration:
            headers = TextHeaders()
        epoch = headers.get(EPOCH, "")
        if not epoch:
            raise InvalidMessage(f"{self._opening.name!r} is no topic: use client.stream()")
        number = self._number(headers)
        if self._after is not None and (self._epoch not in {"", epoch} or number < self._after):
            self._restarted = True
        self._after, self._epoch = number, epoch
        if self._failures:
            logger.info("subscribed to %r again", self._opening.name)
        return items

    def _event(self, items: Items[T], headers: TextHeaders, body: bytes) -> Event[T]:
        try:
            value = items.decode(headers, body)
        except ValueError as error:
            raise InvalidMessage(
                f"a message of the topic {self._opening.name!r} cannot be decoded: {error}"
            ) from error
        number = self._number(headers)
        assert self._after is not None
        missed = None if self._restarted else max(0, number - self._after - 1)
        self._after, self._restarted, self._failures = number, False, 0
        return Event(value, number, missed, self._epoch)

    def _number(self, headers: TextHeaders) -> int:
        text = headers.get(SEQUENCE, "")
        if not (text.isascii() and text.isdigit() and len(text) < len(str(_MAX_NUMBER))):
            raise InvalidMessage(
                f"a message of the topic {self._opening.name!r} has the header {SEQUENCE} "
                f"{text[:40]!r}: it must be a number"
            )
        return int(text)


def _may_pass(error: TofuError) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, ServiceError):
        return error.code in {UNAVAILABLE, _BROKEN_OFF}
    if isinstance(error, ConnectFailed | UdsPathNotFound):
        return not is_certificate_refused(error)
    return isinstance(error, PeerDisconnected | ChannelEnded)

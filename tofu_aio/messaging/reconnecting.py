"""One channel after another to a listener, for as long as the caller wants them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from inspect import isawaitable
from ssl import SSLCertVerificationError
from typing import Protocol, Self, TypeVar, Unpack, cast

from anyio import BusyResourceError

from ..checks import checked_function
from ..protocol.address import Address, parse_address
from ..protocol.errors import (
    ChannelClosed,
    ChannelEnded,
    ConnectFailed,
    UdsPathNotFound,
)
from ..protocol.lifecycle import State
from ..protocol.text_headers import HeadersLike, TextHeaders
from .backoff import Backoff
from .channel import Channel
from .options import AttemptOptions, BodyMaker, ConnectOptions, HeadersMaker, ReconnectOptions

logger = logging.getLogger("tofu_aio.reconnect")

T = TypeVar("T")


class Connector(Protocol):
    """The group that channels are made in."""

    @property
    def _closed(self) -> bool:
        """Whether it was closed."""

    def connect(
        self, address: str | Address, **options: Unpack[ConnectOptions]
    ) -> Awaitable[Channel]:
        """A channel to a listener."""

    async def _pause(self, seconds: float) -> None:
        """Wait; if the group is closed, no longer than that."""


class Reconnecting(AsyncIterator[Channel]):
    """An async iterator whose every turn brings a fresh channel. Made by ``reconnecting``.

    A channel belongs to its turn of the loop. It is closed, if it is not yet, before the next
    turn's is made; and when the iterator is dropped, which ``break``, ``return``, an exception and
    a cancellation do. Then its Bye is said, but not waited for: an ``async with channel`` in the
    loop's body, or ``contextlib.aclosing`` around the loop, does that.

    A peer that is lost is told in the loop's body, as on any channel: catch ``PeerDisconnected``
    there, and the next turn has the next channel.

    Between turns there is nothing but the channel: no task, no timer, no descriptor.

    Args:
        group: brings the group that the channels are made in.
        addresses: of the listener, in order of preference.
        options: for each attempt, and between them.

    Raises:
        InvalidAddress, InvalidMessage, InvalidHeadersLen: no attempt could succeed.
        TypeError: ``backoff`` or ``on_failure`` is something else.
    """

    def __init__(
        self,
        group: Callable[[], Awaitable[Connector]],
        addresses: Sequence[str | Address],
        **options: Unpack[ReconnectOptions],
    ) -> None:
        self._channel: Channel | None = None  # of the current turn
        self._open_group = group
        self._group: Connector | None = None
        self._addresses = [parse_address(address) for address in addresses]
        self._first = 0  # the one that the next round begins with
        self._backoff = _checked_backoff(options.pop("backoff", None))
        self._on_failure = options.pop("on_failure", None)
        if self._on_failure is not None:
            checked_function("on_failure", self._on_failure)
        headers = options.pop("headers", ())
        # Taken now: what can be iterated only once would be gone at the next attempt.
        self._headers: HeadersLike | HeadersMaker = (
            headers if callable(headers) else TextHeaders(headers)
        )
        self._body: bytes | BodyMaker = options.pop("body", b"")
        self._options = cast("AttemptOptions", options)  # what is left of them
        self._rounds = 0  # begun since the last channel that lived
        self._opened = 0.0  # when the current turn began, by the loop's clock
        self._outage = _Outage()
        self._busy = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Channel:
        """A fresh channel, however long that takes.

        Raises:
            StopAsyncIteration: the group was closed.
            InvalidAddress, WrongAddress, ValueError, TypeError: no other attempt would cure it.
            BusyResourceError: another task waits for the next channel.
        """
        if self._busy:
            raise BusyResourceError("reconnecting with")
        self._busy = True
        try:
            await self.aclose()
            self._channel = await self._connect()
        finally:
            self._busy = False
        self._opened = asyncio.get_running_loop().time()
        return self._channel

    async def aclose(self) -> None:
        """End the turn: close its channel, with a Bye, in 5 seconds at most."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        lived = asyncio.get_running_loop().time() - self._opened > self._backoff.maximum
        await channel.aclose()
        lost = not isinstance(channel.end, ChannelEnded | ChannelClosed)
        if lived:
            self._rounds = 1  # the round that made it was a good one
        # Whoever accepts and drops is as good as nobody, and so is who does not answer a Bye.
        if isinstance(channel.end, ChannelClosed) or (lost and not lived):
            self._turn_to_next()

    async def _connect(self) -> Channel:
        if self._group is None:
            self._group = await self._open_group()
        while True:
            if self._rounds:
                await self._group._pause(self._backoff.wait(self._rounds - 1))
            self._rounds += 1
            reasons: list[str] = []
            for _ in self._addresses:
                channel = await self._attempt(self._group, reasons)
                if channel is not None:
                    return channel
                self._turn_to_next()
            self._outage.round_failed(reasons)

    async def _attempt(self, group: Connector, reasons: list[str]) -> Channel | None:
        """A channel to the address whose turn it is, or one more reason why there is none."""
        # Outside of what is caught below: whatever these raise ends the loop.
        headers: HeadersLike = await _made(self._headers)
        body = await _made(self._body)
        address = self._addresses[self._first]
        outage = self._outage
        outage.begin_attempt()
        try:
            channel = await group.connect(address, headers=headers, body=body, **self._options)
        except ChannelClosed:
            raise StopAsyncIteration from None
        except (ConnectFailed, UdsPathNotFound) as error:
            if _distrusts(error):
                raise
            # As text: a handler that keeps the error keeps, by its traceback, this iterator, and
            # the channel of a loop that was left would never be closed.
            reasons.append(str(error))
            logger.debug("attempt %d to connect failed: %s", outage.attempts, reasons[-1])
            if self._on_failure is not None:
                self._on_failure(error)
            return None
        outage.end(address)
        self._outage = _Outage()
        return channel

    def _turn_to_next(self) -> None:
        self._first = (self._first + 1) % len(self._addresses)

    def __del__(self) -> None:
        # Also for what __init__ refused, and in whatever thread collects garbage.
        channel: Channel | None = getattr(self, "_channel", None)
        if channel is not None and channel.state is not State.CLOSED:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all is over
                channel._connection.closing.done.get_loop().call_soon_threadsafe(channel._leave)


class _Outage:
    """The attempts since the last channel, and what the log is told of them.

    Attributes:
        attempts: how many have begun.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self._since = 0.0
        self._warned = False

    def begin_attempt(self) -> None:
        """Count it."""
        if not self.attempts:
            self._since = asyncio.get_running_loop().time()
        self.attempts += 1

    def round_failed(self, reasons: Sequence[str]) -> None:
        """No address could be reached: the first time that is worth a warning."""
        if not self._warned:
            self._warned = True
            logger.warning("no connection, trying until there is one: %s", "; ".join(reasons))

    def end(self, address: Address) -> None:
        """There is a channel again."""
        if self._warned:
            seconds = asyncio.get_running_loop().time() - self._since
            logger.info(
                "connected to %s after %.1f s, at attempt %d", address, seconds, self.attempts
            )


async def _made(given: T | Callable[[], T | Awaitable[T]]) -> T:
    """What is given, or what it makes."""
    if not callable(given):
        return given
    made = given()
    return await made if isawaitable(made) else made


def _checked_backoff(backoff: Backoff | None) -> Backoff:
    if backoff is None:
        return Backoff()
    if not isinstance(backoff, Backoff):
        raise TypeError(f"backoff is {backoff!r}: give Backoff(initial=0.1, maximum=30.0), say")
    return backoff


def _distrusts(error: BaseException) -> bool:
    """Whether the peer's certificate was refused, as it would be at any later attempt."""
    cause = error.__cause__
    return cause is not None and (isinstance(cause, SSLCertVerificationError) or _distrusts(cause))

"""One channel after another to a listener, until the program leaves the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ssl import SSLCertVerificationError
from typing import Protocol, Self, Unpack, cast

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
from .options import (
    AttemptOptions,
    BodyMaker,
    ConnectOptions,
    HeadersMaker,
    ReconnectOptions,
    evaluated,
)

logger = logging.getLogger("tofu_aio.reconnect")


class Connector(Protocol):
    """The group in which channels are made."""

    @property
    def _closed(self) -> bool:
        """Whether the group was closed."""

    def connect(
        self, address: str | Address, **options: Unpack[ConnectOptions]
    ) -> Awaitable[Channel]:
        """Make a channel to a listener."""

    async def _pause(self, seconds: float) -> None:
        """Wait, but only until the group is closed."""


class Reconnecting(AsyncIterator[Channel]):
    """An async iterator that gives a fresh channel in each iteration. Made by ``reconnecting``.

    A channel belongs to one iteration of the loop. If it is still open, it is closed before the
    next channel is made, and when the iterator is dropped, as ``break``, ``return``, an exception
    and a cancellation do. Dropping the iterator sends the Bye but does not wait for the answer. To
    wait, use ``async with channel`` in the loop's body, or ``contextlib.aclosing`` around the loop.

    The loss of a peer is raised in the loop's body, as on any channel. Catch ``PeerDisconnected``
    there, and the next iteration gets the next channel.

    Apart from its current channel the iterator has no task, no timer and no descriptor.

    Args:
        group: returns the group in which the channels are made.
        addresses: of the listener, in order of preference.
        options: for the attempts, and for the waits between them.

    Raises:
        InvalidAddress, InvalidMessage, InvalidHeadersLen: no attempt could succeed.
        TypeError: ``backoff`` is not a Backoff, or ``on_failure`` is not a function.
    """

    def __init__(
        self,
        group: Callable[[], Awaitable[Connector]],
        addresses: Sequence[str | Address],
        **options: Unpack[ReconnectOptions],
    ) -> None:
        self._channel: Channel | None = None  # of the current iteration
        self._open_group = group
        self._group: Connector | None = None
        self._addresses = [parse_address(address) for address in addresses]
        self._first = 0  # index of the address that the next round starts with
        self._backoff = _checked_backoff(options.pop("backoff", None))
        self._on_failure = options.pop("on_failure", None)
        if self._on_failure is not None:
            checked_function("on_failure", self._on_failure)
        headers = options.pop("headers", ())
        # Copied now: an iterator would be exhausted at the next attempt.
        self._headers: HeadersLike | HeadersMaker = (
            headers if callable(headers) else TextHeaders(headers)
        )
        self._body: bytes | BodyMaker = options.pop("body", b"")
        self._options = cast("AttemptOptions", options)  # the remaining ones
        self._rounds = 0  # begun since the last channel that lasted
        self._opened = 0.0  # when the current iteration began, by the loop's clock
        self._outage = _Outage()
        self._busy = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Channel:
        """A fresh channel, however long it takes to get one.

        Raises:
            StopAsyncIteration: the group was closed.
            InvalidAddress, WrongAddress, ValueError, TypeError: another attempt would not help.
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
        """End the iteration: close its channel, with a Bye. Takes as long as ``Channel.aclose``."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        lasted = asyncio.get_running_loop().time() - self._opened > self._backoff.maximum
        await channel.aclose()
        lost = not isinstance(channel.end, ChannelEnded | ChannelClosed)
        if lasted:
            self._rounds = 1  # the round that made this channel was a success
        # A listener that accepts and then drops channels, or does not answer a Bye, is of no use.
        if isinstance(channel.end, ChannelClosed) or (lost and not lasted):
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
        """A channel to the address whose turn it is; None, and one more reason, if that fails."""
        # Outside the try: an error of these functions ends the loop.
        headers: HeadersLike = await evaluated(self._headers)
        body = await evaluated(self._body)
        address = self._addresses[self._first]
        outage = self._outage
        outage.begin_attempt()
        try:
            channel = await group.connect(address, headers=headers, body=body, **self._options)
        except ChannelClosed:
            raise StopAsyncIteration from None
        except (ConnectFailed, UdsPathNotFound) as error:
            if is_certificate_refused(error):
                raise
            # As text: a log handler that kept the error would keep this iterator alive, by the
            # traceback, and the channel of a loop that was left would never be closed.
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
        # Also runs if __init__ has raised, and in any thread that collects garbage.
        channel: Channel | None = getattr(self, "_channel", None)
        if channel is not None and channel.state is not State.CLOSED:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to close
                channel._connection.loop.call_soon_threadsafe(channel._leave)


class _Outage:
    """The attempts since the last channel, and their lines in the log.

    Attributes:
        attempts: how many attempts have begun.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self._since = 0.0
        self._warned = False

    def begin_attempt(self) -> None:
        """Count an attempt."""
        if not self.attempts:
            self._since = asyncio.get_running_loop().time()
        self.attempts += 1

    def round_failed(self, reasons: Sequence[str]) -> None:
        """Warn the first time that no address could be reached."""
        if not self._warned:
            self._warned = True
            logger.warning("no connection, trying until there is one: %s", "; ".join(reasons))

    def end(self, address: Address) -> None:
        """Log that there is a channel again."""
        if self._warned:
            seconds = asyncio.get_running_loop().time() - self._since
            logger.info(
                "connected to %s after %.1f s, at attempt %d", address, seconds, self.attempts
            )


def _checked_backoff(backoff: Backoff | None) -> Backoff:
    if backoff is None:
        return Backoff()
    if not isinstance(backoff, Backoff):
        raise TypeError(
            f"backoff is {backoff!r}: give a Backoff, such as Backoff(initial=0.1, maximum=30.0)"
        )
    return backoff


def is_certificate_refused(error: BaseException) -> bool:
    """Whether the peer's certificate was refused, as it would be at any later attempt."""
    cause = error.__cause__
    if cause is None:
        return False
    return isinstance(cause, SSLCertVerificationError) or is_certificate_refused(cause)

"""One channel after another to the same listener, for as long as the caller wants them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ssl import SSLCertVerificationError, SSLContext
from typing import TYPE_CHECKING, Self, TypedDict, Unpack

from anyio import BusyResourceError

from ..protocol.address import Address, parse_address
from ..protocol.errors import (
    ChannelClosed,
    ConnectFailed,
    InvalidAddress,
    TofuError,
    UdsPathNotFound,
)
from ..protocol.lifecycle import State
from ..protocol.text_headers import HeadersLike, TextHeaders
from .backoff import Backoff
from .channel import Channel
from .checks import checked_function
from .heartbeat import HeartbeatOption

if TYPE_CHECKING:
    from .group import ChannelGroup

logger = logging.getLogger(__name__)


class ConnectOptions(TypedDict, total=False):
    """The options of ``ChannelGroup.connect``, which says more of each.

    Attributes:
        headers: of the Hello; none by default.
        body: of the Hello; empty by default.
        ssl: speak TLS (TCP only), with this context.
        server_hostname: whom the listener's certificate must name; by default the host.
        keepalive: seconds of silence after which the kernel asks whether the peer is there; by
            default it never does.
        timeout: seconds to connect and be accepted, for each attempt; 10 by default.
        heartbeat: seconds between signs of life, None for none; by default 20 over TCP, none over
            Unix sockets.
    """

    headers: HeadersLike
    body: bytes
    ssl: SSLContext | None
    server_hostname: str | None
    keepalive: float | None
    timeout: float
    heartbeat: HeartbeatOption


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
        address: of the listener.
        backoff: how long to wait between attempts.
        on_failure: told why an attempt failed.
        options: for each attempt.

    Raises:
        InvalidAddress, InvalidMessage, InvalidHeadersLen: no attempt could succeed.
        TypeError: ``backoff`` or ``on_failure`` is something else.
    """

    def __init__(
        self,
        group: Callable[[], Awaitable[ChannelGroup]],
        address: str | Address,
        backoff: Backoff | None,
        on_failure: Callable[[TofuError], object] | None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        self._channel: Channel | None = None  # of the current turn
        self._open_group = group
        self._group: ChannelGroup | None = None
        self._address = parse_address(address)
        self._backoff = _checked_backoff(backoff)
        if on_failure is not None:
            checked_function("on_failure", on_failure)
        self._on_failure = on_failure
        # Taken now, for headers that can be iterated only once would be gone at the next attempt.
        self._options: ConnectOptions = {
            **options,
            "headers": TextHeaders(options.get("headers", ())),
        }
        self._attempts = 0  # since the last channel that lived
        self._opened = 0.0  # when the current turn began, by the loop's clock
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
        if channel is not None:
            if asyncio.get_running_loop().time() - self._opened > self._backoff.maximum:
                self._attempts = 1  # it lived: the attempt that made it was a good one
            await channel.aclose()

    async def _connect(self) -> Channel:
        if self._group is None:
            self._group = await self._open_group()
        group = self._group
        while True:
            try:
                if self._attempts:
                    await group._pause(self._backoff.wait(self._attempts - 1))
                self._attempts += 1
                return await group.connect(self._address, **self._options)
            except ChannelClosed:
                raise StopAsyncIteration from None
            except (ConnectFailed, UdsPathNotFound, InvalidAddress) as error:
                if not _may_pass(error):
                    raise
                # As text: a handler that keeps the error keeps, by its traceback, this iterator,
                # and the channel of a loop that was left would never be closed.
                logger.warning("attempt %d to connect failed: %s", self._attempts, str(error))
                if self._on_failure is not None:
                    self._on_failure(error)

    def __del__(self) -> None:
        # Also for what __init__ refused, and in whatever thread collects garbage.
        channel: Channel | None = getattr(self, "_channel", None)
        if channel is not None and channel.state is not State.CLOSED:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all is over
                channel._connection.done.get_loop().call_soon_threadsafe(channel._leave)


def _checked_backoff(backoff: Backoff | None) -> Backoff:
    if backoff is None:
        return Backoff()
    if not isinstance(backoff, Backoff):
        raise TypeError(f"backoff is {backoff!r}: give Backoff(initial=0.1, maximum=30.0), say")
    return backoff


def _may_pass(error: TofuError) -> bool:
    """Whether another attempt may succeed.

    A malformed address stays so; but a host that has no address now, which the resolver says with
    an OSError, may have one once the network is back. Whom we do not trust, we do not trust later.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, SSLCertVerificationError) for cause in causes):
        return False
    return not isinstance(error, InvalidAddress) or any(isinstance(c, OSError) for c in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error

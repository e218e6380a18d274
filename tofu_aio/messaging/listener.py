"""A listener as a stream of channels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import Listener as AnyioListener
from anyio.abc import TaskGroup

from ..protocol.address import Address
from ..protocol.errors import ChannelClosed, TofuError
from ..protocol.lifecycle import State
from .acceptor import Acceptor
from .channel import Channel
from .mailbox import Mailbox

logger = logging.getLogger(__name__)


class Listener(AnyioListener[Channel]):
    """Accepts channels. Made by ``group.listen``.

    A connection shows up here once its Hello has arrived; what does not introduce itself in time,
    or not with a Hello, is closed and never seen. An anyio ``Listener[Channel]``.
    """

    def __init__(self, number: int, forget: Callable[[int], None]) -> None:
        self._number = number
        self._forget = forget
        self._ready: Mailbox[Channel] = Mailbox()
        self._acceptor: Acceptor | None = None

    async def start(self, acceptor: Acceptor) -> None:
        """Begin to accept."""
        self._acceptor = acceptor
        await acceptor.start()

    @property
    def channel_number(self) -> int:
        """Its local number, 1 to 65534."""
        return self._number

    @property
    def address(self) -> Address:
        """Where it listens; the port is the one the system chose, if that was left to it."""
        assert self._acceptor is not None
        return self._acceptor.address

    async def accept(self) -> Channel:
        """The next channel, open: its Hello is answered now. Cancelled, it loses none.

        Raises:
            ChannelClosed: the listener was closed.
            BusyResourceError: another task is accepting.
        """
        assert self._acceptor is not None
        while True:
            channel = await self._ready.take()
            self._acceptor.taken()
            if channel.state is State.HELLO_HEARD:  # else its peer has left again
                channel.accept_hello()
                return channel

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Channel:
        """The next channel; the iteration ends when the listener is closed."""
        try:
            return await self.accept()
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def serve(
        self,
        handler: Callable[[Channel], Awaitable[object]],
        task_group: TaskGroup | None = None,
    ) -> None:
        """Accept channels and run ``handler(channel)`` for each, all at once, until closed.

        A channel is closed when its handler returns. One whose handler raises is aborted and the
        error is logged; the others, and the listener, go on. A peer that was lost is no error.

        Args:
            handler: an async function that takes the channel.
            task_group: runs the handlers; without one, this waits for them before it returns.
        """
        if task_group is None:
            async with anyio.create_task_group() as own:
                await self.serve(handler, own)
            return
        async for channel in self:
            task_group.start_soon(_handle, handler, channel)

    async def aclose(self) -> None:
        """Stop listening. Accepted channels live on; those not accepted are closed."""
        for channel in self._ready.close(ChannelClosed("the listener was closed")):
            channel.abort()
        if self._acceptor is not None:
            self._acceptor.close()
        forget, self._forget = self._forget, _already_forgotten
        forget(self._number)
        await asyncio.sleep(0)  # then the address is free

    def introduced(self, channel: Channel) -> None:
        """A channel said Hello, or ended before it could."""
        assert self._acceptor is not None
        self._acceptor.introduced(channel._connection)
        if channel.state is State.HELLO_HEARD:
            self._ready.put([channel])
        else:
            self._acceptor.taken()

    def __repr__(self) -> str:
        return f"<Listener {self._number} {self.address}>"


def _already_forgotten(number: int) -> None:
    """Closing twice is no error."""


async def _handle(handler: Callable[[Channel], Awaitable[object]], channel: Channel) -> None:
    async with channel:
        try:
            await handler(channel)
        except TofuError as error:
            if channel.state is not State.CLOSED:
                logger.exception("the handler of %r failed", channel)
                channel.abort()
            else:
                logger.debug("%r: %s", channel, error)
        except Exception:
            # One bad conversation must not end the others: a server's tasks are its peers.
            logger.exception("the handler of %r failed", channel)
            channel.abort()

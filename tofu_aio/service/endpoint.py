"""One address of a client: its channels, and whether it works."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from typing import Final, TypeAlias

from ..messaging.channel import Channel
from ..protocol.errors import (
    ChannelClosed,
    ConnectFailed,
    TofuError,
    UdsPathNotFound,
    again,
)
from ..protocol.lifecycle import State
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from ..protocol.text_headers import TextHeaders
from .breaker import Breaker
from .call import inherited_deadline, left
from .errors import STATUSES, UNIMPLEMENTED
from .headers import CODE, timed

logger = logging.getLogger("tofu_aio.service")

AroundChannel: TypeAlias = Callable[[Channel], AbstractContextManager[object]]
"""A function that takes each channel that a client opens and returns a context manager. That is
entered once the channel is open, and left when it is closed."""

IDLE_STREAMS: Final = 4
"""Channels for streams that an address keeps open while no stream uses them."""


class Link:
    """A channel of a client. It is closed once its peer drains and nothing uses it any more.

    Args:
        channel: open.
        owned: whether the client has made it, and so receives from it and closes it.
        hook: entered already, and left when the channel is closed; None for none.
        context: in which the hook was entered, and is left.

    Attributes:
        channel: as given.
        users: how many calls and streams use it.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        owned: bool,
        hook: AbstractContextManager[object] | None = None,
        context: Context | None = None,
    ) -> None:
        self.channel = channel
        self._hook = hook
        self._context = context
        self.users = 0
        self._closing: asyncio.Task[None] | None = None
        # The program's own channel is received from, and closed, by the program.
        running = [self._drop(), self._leave()] if owned else []
        self._tasks = [asyncio.create_task(each, context=context) for each in running]

    @property
    def usable(self) -> bool:
        """Whether a call may still be sent."""
        channel = self.channel
        return channel.state is State.OPEN and not channel.draining

    @property
    def closed(self) -> bool:
        """Whether nothing of it is left."""
        return self._closing is not None and self._closing.done()

    def release(self) -> None:
        """One call or stream less uses it."""
        self.users -= 1
        if not self.users and not self.usable:
            self.close()

    def close(self) -> None:
        """Close the channel, with a Bye, unless it is the program's own. Does not wait."""
        if self._tasks and self._closing is None:
            self._closing = asyncio.create_task(self._close(), context=self._context)

    async def aclose(self) -> None:
        """Close it, and wait until that is done."""
        self.close()
        if self._closing is not None:
            await asyncio.wait([self._closing])

    async def _close(self) -> None:
        await self.channel.aclose()
        await asyncio.wait(self._tasks)  # they end with the channel
        if self._hook is not None:
            try:
                self._hook.__exit__(None, None, None)
            except Exception:
                logger.exception("around_channel failed when %r was closed", self.channel)

    async def _drop(self) -> None:
        """Receive what nobody has asked for: if it were left unread, it would stop the channel."""
        with suppress(TofuError):
            async for message in self.channel:
                with message:
                    if message.op_code is OpCode.REQUEST:
                        await self._refuse(message)
        self.close()

    async def _refuse(self, request: Message) -> None:
        """Tell a peer that calls here that nothing does, so that it does not wait."""
        text = b"this is a client without handlers: serve its channel with Service.handle"
        if request.more:
            async with self.channel.stream(request) as exchange:
                await exchange.finish(text, {CODE: UNIMPLEMENTED}, status=STATUSES[UNIMPLEMENTED])
        else:
            status = STATUSES[UNIMPLEMENTED]
            await self.channel.reply(request, text, {CODE: UNIMPLEMENTED}, status=status)

    async def _leave(self) -> None:
        """Close the channel when the peer is shutting down."""
        await self.channel.wait_draining()
        if not self.users:
            self.close()


class Endpoint:
    """One address of a client.

    Args:
        name: the address, for errors.
        connect: makes a channel; None if ``channel`` is the only one.
        breaker: says when the address may be used.
        channel: the program's own, if it has given one in place of an address.
        around: the program's hook for channels that are made.

    Attributes:
        name, breaker: as given.
        in_flight: the calls and streams that use the address, or wait for its channel.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Channel]] | None,
        breaker: Breaker,
        channel: Channel | None = None,
        *,
        around: AroundChannel | None = None,
    ) -> None:
        self.name = name
        self.breaker = breaker
        self.in_flight = 0
        self._connect = connect
        self._around = around
        # The channel for calls.
        self._link = None if channel is None else Link(channel, owned=False)
        self._connecting: asyncio.Task[Link] | None = None
        self._idle: list[Link] = []  # for streams
        self._links: dict[Link, None] = {}  # all that may still be open, in order
        self._closed = False

    @property
    def link(self) -> Link | None:
        """The channel for calls; None if there is none at the moment."""
        link = self._link
        return link if link is not None and link.usable else None

    async def open(self) -> Link:
        """The channel for calls, which is made if there is none. Many tasks may wait for it.

        Raises:
            ConnectFailed: there is none, and none can be made.
            TofuError: as ``connect``.
        """
        link = self.link
        if link is not None:
            return link
        connecting = self._connecting
        if connecting is None or connecting.done():
            connecting = self._connecting = asyncio.create_task(self._reconnect())
        try:
            await asyncio.wait([connecting])
        except asyncio.CancelledError:
            connecting.add_done_callback(_ignore)  # if nobody waits for its error any more
            raise
        if connecting.cancelled():
            raise ChannelClosed("the client was closed")
        error = connecting.exception()
        if isinstance(error, TofuError):
            raise again(error)  # each caller gets a copy of its own
        return connecting.result()

    async def _reconnect(self) -> Link:
        link = await self._made()
        old, self._link = self._link, link
        if old is not None and not old.users:
            old.close()
        return link

    async def _made(self) -> Link:
        """A new channel. Its context is its own: that of the call that needs it does not last."""
        context = Context()
        return await asyncio.create_task(self._connected(context), context=context)

    async def _connected(self, context: Context) -> Link:
        if self._connect is None:
            raise ChannelClosed(f"{self.name} has ended, and the client has no address to connect")
        self._links = {link: None for link in self._links if not link.closed}
        try:
            channel = await self._connect()
        except (ConnectFailed, UdsPathNotFound) as error:
            self.breaker.unreachable(error, asyncio.get_running_loop().time())
            if isinstance(error, ConnectFailed):
                raise
            raise ConnectFailed(str(error)) from error
        self.breaker.connected()
        hook = None
        if self._around is not None:
            try:
                hook = self._around(channel)
                hook.__enter__()
            except BaseException:
                channel.abort()
                raise
        link = Link(channel, owned=True, hook=hook, context=context)
        self._links[link] = None
        if self._closed:
            link.close()
            raise ChannelClosed("the client was closed")
        return link

    async def request(self, body: bytes, headers: TextHeaders, deadline: float | None) -> Message:
        """Send a request once and return its response, whatever its status is.

        Args:
            body: of the request.
            headers: of the request, without its time-out.
            deadline: when the caller's time is over, by the loop's clock; None for never.

        Raises:
            AttemptFailed: another attempt may help.
            TofuError, TimeoutError: it would not.
        """
        # How much a handler has left for the calls that it makes says nothing about the service
        # that it calls.
        own = deadline is not None and deadline != inherited_deadline()
        self.in_flight += 1
        try:
            link = self.link or await self._opened(deadline)
            link.users += 1
            channel, seconds = link.channel, None
            sent = channel.state is State.OPEN  # also if it drains
            try:
                if deadline is None:
                    response = await channel.request(body, headers)
                else:
                    seconds = left(deadline)
                    response = await channel.request(body, timed(headers, seconds), timeout=seconds)
            except TimeoutError as error:
                if seconds and own:  # without time, nobody could have answered
                    self.breaker.failed(error, asyncio.get_running_loop().time())
                raise
            except TofuError as error:
                if channel.state is State.OPEN:
                    raise  # of this call alone, for example because its result is too long
                if not isinstance(error, ChannelClosed):  # closed here, because its peer drains
                    self.breaker.failed(error, asyncio.get_running_loop().time())
                raise AttemptFailed(error, sent=sent, begun=sent) from None
            finally:
                link.release()
        finally:
            self.in_flight -= 1
        self.breaker.succeeded()
        return response

    async def _opened(self, deadline: float | None) -> Link:
        """The channel for calls, once it is made."""
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await self.open()
        except TimeoutError:
            if not limit.expired():
                raise  # it is the program's own, from a function that makes headers
            raise TimeoutError(f"{self.name} could not be connected in time") from None
        except ConnectFailed as error:
            raise AttemptFailed(error, sent=False, begun=False) from None

    async def begin_stream(self, deadline: float | None) -> Link:
        """A channel for one stream. Give it back with ``end_stream``.

        Args:
            deadline: when the time to connect is over, by the loop's clock; None for never.

        Raises:
            TofuError: as ``connect``.
            TimeoutError: it took too long.
        """
        if self._connect is None:
            return self.link or await self._made()  # raises if it has ended
        self.in_flight += 1
        try:
            async with asyncio.timeout_at(deadline):
                link = self._idle_link() or await self._made()
        except BaseException:
            self.in_flight -= 1
            raise
        link.users += 1
        return link

    def end_stream(self, link: Link, *, clean: bool) -> None:
        """Take back the channel of a stream. It is used again only if nothing went wrong."""
        if self._connect is None:
            return
        self.in_flight -= 1
        link.release()
        if clean and link.usable and len(self._idle) < IDLE_STREAMS:
            self._idle.append(link)
        else:
            link.close()  # whoever leaves a stream need not wait for the peer's Bye

    def _idle_link(self) -> Link | None:
        """A channel that is not used any more. Those that are not usable have closed themselves."""
        while self._idle:
            link = self._idle.pop()
            if link.usable:
                return link
            link.close()
        return None

    async def aclose(self) -> None:
        """Close all channels."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            _ignore(self._connecting)
        self._link = None
        self._idle.clear()
        async with asyncio.TaskGroup() as closing:
            for link in self._links:
                closing.create_task(link.aclose())

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} in_flight={self.in_flight}>"


class AttemptFailed(Exception):
    """An attempt failed, and another one may succeed.

    Args:
        error: why.
        sent: whether the call may have reached a service.
        begun: whether it may have been carried out.
    """

    def __init__(self, error: TofuError, *, sent: bool, begun: bool) -> None:
        super().__init__(error)
        self.error = error
        self.sent = sent
        self.begun = begun


def _ignore(task: asyncio.Task[Link]) -> None:
    """Do not let asyncio report an error that nobody has asked for."""
    if not task.cancelled():
        task.exception()

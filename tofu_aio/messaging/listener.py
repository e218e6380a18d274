"""A listener as a stream of channels."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import anyio
from anyio.abc import Listener as AnyioListener
from anyio.abc import TaskGroup

from ..checks import checked_function, checked_seconds
from ..protocol.address import Address
from ..protocol.errors import ChannelClosed, ChannelEnded
from ..protocol.lifecycle import State
from ..protocol.status import Status
from ..transport.socket_attributes import Attributes
from ..transport.transport import Acceptor
from .accepting.admission import Admission
from .accepting.decision import Decide, decided
from .accepting.handler_errors import awaited, handler_failed
from .channel import Channel
from .delivery.mailbox import Mailbox
from .limits import DECISION_TIMEOUT, DRAIN_TIMEOUT

_STAYING: Final = frozenset(State) - {State.HELLO_AWAITED, State.HELLO_HEARD, State.CLOSED}
"""The states of a channel that stays open while its listener is drained."""

_TURNS: Final = 4
"""Turns of the loop in which a Hello that has arrived is read from its socket, and refused."""

_SHUTTING_DOWN: Final = "the listener is shutting down: try again later, or another address"


class Owner(Protocol):
    """Knows the channels of the listener's group."""

    def forget(self, number: int) -> None:
        """Forget the listener, which is closed, and free its number."""

    def accepted_by(self, introduced: Callable[[Channel], None]) -> list[Channel]:
        """The channels whose listener follows them with this function."""


class Listener(AnyioListener[Channel]):
    """Accepts channels. Made by ``group.listen``.

    A connection becomes a channel here once its Hello has arrived. A connection that does not send
    a Hello in time is closed, and the application never sees it. An anyio ``Listener[Channel]``.
    """

    def __init__(self, number: int, owner: Owner) -> None:
        self._number = number
        self._owner = owner
        self._forgotten = False
        self._served: set[Channel] = set()  # those with a handler of ``serve``
        self._ready: Mailbox[Channel] = Mailbox()
        self._admission: Admission | None = None
        self._acceptor: Acceptor | None = None

    def _start(self, acceptor: Acceptor, admission: Admission) -> None:
        """Start to accept connections."""
        self._acceptor = acceptor
        self._admission = admission
        acceptor.start(admission)

    @property
    def channel_number(self) -> int:
        """The local number of the listener, 1 to 65534."""
        return self._number

    @property
    def address(self) -> Address:
        """The address that it listens on. For port 0 it has the port that the system chose.

        The path of a Unix socket is as it was given. A relative path is valid only as long as the
        working directory is the one in which the listener was created.
        """
        assert self._acceptor is not None
        return self._acceptor.address

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """Anyio's ``SocketAttribute``s with the local address; none once the listener is closed."""
        assert self._acceptor is not None
        return self._acceptor.attributes()

    async def accept(self) -> Channel:
        """Wait for the next channel and accept it, which answers its Hello.

        No channel is lost if this is cancelled.

        Raises:
            ChannelClosed: the listener was closed.
            BusyResourceError: another task is accepting.
        """
        channel = await self.receive_hello()
        channel.accept()
        return channel

    async def receive_hello(self) -> Channel:
        """Wait for the next channel and return it undecided: look at its ``hello`` and ``peer``.

        Then ``channel.accept()`` opens it, ``await channel.reject(reason)`` refuses it and sends
        the reason to the peer, and closing it refuses it without a reason. Until then its state is
        HELLO_HEARD, or CLOSED if the peer has disconnected.

        A listener has at most 128 undecided channels. Each of them counts until it is accepted or
        closed, so an application that receives Hellos and does not decide blocks its own listener.
        An undecided channel stays open when the listener is closed. No channel is lost if this is
        cancelled.

        Raises:
            ChannelClosed, BusyResourceError: as ``accept``.
        """
        while True:
            channel = await self._ready.receive()
            if channel.state is State.HELLO_HEARD:  # otherwise the peer has disconnected already
                return channel

    @property
    def _waiting(self) -> int:
        """How many undecided channels have not been received yet. For any thread."""
        return len(self._ready.items)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Channel:
        """Accept the next channel. The iteration ends when the listener is closed."""
        try:
            return await self.accept()
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def serve(
        self,
        handler: Callable[[Channel], Awaitable[object]],
        task_group: TaskGroup | None = None,
        *,
        decide: Decide | None = None,
        decide_timeout: float = DECISION_TIMEOUT,
    ) -> None:
        """Accept channels and run ``handler(channel)`` for each, concurrently, until closed.

        When the listener is closed, the handlers receive the messages that have arrived by then,
        and nothing after them: iterating over the channel ends, and ``receive`` raises
        ``ChannelEnded``, as after the peer's Bye. So this returns when they have answered those. A
        handler that waits for something else is not ended: ``drain`` is bounded in time.

        A channel is closed when its handler returns. If the handler raises, the channel is aborted
        and the error is logged; the other channels, and the listener, go on. Errors that report the
        end of the handler's own channel, because the peer was lost or this side closes it, are not
        faults: a handler may let them propagate, and the log has one line at level INFO. The same
        holds for ``ExchangeFailed`` of an exchange on this channel. But it ends the handler, and
        with it the channel, which is closed with a Bye: catch it if other exchanges should go on.

        Args:
            handler: an async function that is called with the channel.
            task_group: runs the handlers. Without one, this waits for them before it returns.
            decide: an async function that examines ``channel.hello`` and ``channel.peer`` before
                the channel is accepted. It accepts by returning. It refuses by raising
                ``Rejected``, for example ``Rejected("unknown user")``, whose text and status are
                sent to the peer. Any other exception is logged, and the peer is told only that the
                decision failed. It runs in the channel's own task, and is cancelled when the peer
                disconnects. None accepts every channel at once.
            decide_timeout: seconds for the decision. When they have passed, the channel is refused.

        Raises:
            TypeError, ValueError: ``decide_timeout`` is not a number of seconds, 0 or more; or
                ``handler`` or ``decide`` is not a function.
            BusyResourceError: another task is accepting.
        """
        checked_function("handler", handler)
        if decide is not None:
            checked_function("decide", decide)
        checked_seconds("decide_timeout", decide_timeout)
        if task_group is None:
            try:
                async with anyio.create_task_group() as own:
                    await self.serve(handler, own, decide=decide, decide_timeout=decide_timeout)
            except BaseExceptionGroup as group:
                # Only SystemExit and KeyboardInterrupt of a handler get here, and they have stopped
                # the loop already. Now the loop cleans up and cancels this task. If the exception
                # were raised again, or in a group, it would be printed as a crash.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError from None
                raise group.exceptions[0] from None
            return
        while True:
            try:
                channel = await self.receive_hello()
            except ChannelClosed:
                return
            self._served.add(channel)
            if decide is None:
                channel.accept()
                task_group.start_soon(_handle, handler, channel)
            else:
                task_group.start_soon(_decide, decide, decide_timeout, handler, channel)

    async def aclose(self) -> None:
        """Stop listening. Channels that were accepted stay open; those not received yet are closed.

        A handler of ``serve`` gets the messages that have arrived, and no more; see there.
        """
        for channel in self._ready.close(ChannelClosed("the listener was closed")):
            channel.abort()
        self._close()
        try:
            assert self._acceptor is not None
            await self._acceptor.wait_closed()
            await asyncio.sleep(0)  # and what the system had received by now has been read
        finally:
            for channel in list(self._served):
                _turn_away(channel)
                channel._dispatcher.receive_no_more(
                    ChannelEnded("the listener was closed on this side")
                )

    async def drain(self, timeout: float = DRAIN_TIMEOUT) -> None:
        """End gracefully: accept nothing more, and give all channels time to be closed.

        It stops listening at once, refuses those that have not been accepted, with the status
        SHUTDOWN_STARTED, and calls ``drain`` of each channel of this listener. Handlers of
        ``serve`` go on, and so do channels that were accepted otherwise, until one side closes
        them. After the timeout it closes those that are left, with a Bye, as ``aclose`` of a
        channel does.

        May be called again, and together with ``aclose``, which lets handlers receive no more. If
        it is cancelled, the listener is closed, and its channels are left as they are.

        Args:
            timeout: seconds, 0 or more, that channels may stay open.

        Raises:
            TypeError, ValueError: ``timeout`` is not a number of seconds, 0 or more.
        """
        checked_seconds("timeout", timeout)
        if self._acceptor is not None:
            self._acceptor.stop()
        self._ready.close(ChannelClosed("the listener was closed"))
        channels = self._owner.accepted_by(self._introduced)
        for channel in channels:
            _turn_away(channel)
        remaining = [channel for channel in channels if channel.state in _STAYING]
        for channel in remaining:
            channel.drain()
        try:
            for _ in range(_TURNS):  # a Hello that has arrived is read meanwhile, and refused
                await asyncio.sleep(0)
            await _closed_in_time(remaining, timeout)
        finally:
            self._close()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()

    def _close(self) -> None:
        """Stop listening, drop connections without a Hello, and free the number."""
        if self._acceptor is not None:
            self._acceptor.close()
        if not self._forgotten:
            self._forgotten = True
            self._owner.forget(self._number)

    def _introduced(self, channel: Channel) -> None:
        """Handle a new state of a channel: HELLO_HEARD, open or CLOSED."""
        assert self._admission is not None
        if channel.state is State.HELLO_HEARD:
            self._admission.hello_received(channel._connection)
            if self._ready.end is None:
                self._ready.deliver([channel])
            else:  # soon, because the connection is about to deliver the Hello
                channel._connection.loop.call_soon(partial(_turn_away, channel))
        elif channel.state is State.CLOSED:
            with contextlib.suppress(ValueError):  # it was received already
                self._ready.items.remove(channel)
            self._admission.ended(channel._connection)
            self._served.discard(channel)
        else:
            self._admission.accepted(channel._connection)

    def __repr__(self) -> str:
        return f"<Listener {self._number} {self.address}>"


def _turn_away(channel: Channel) -> None:
    """Refuse a channel that was not accepted yet."""
    if channel.state is State.HELLO_HEARD:
        channel._refuse(_SHUTTING_DOWN, Status.SHUTDOWN_STARTED)


async def _closed_in_time(channels: list[Channel], timeout: float) -> None:
    """Wait until all channels are closed, and after a time close those that are not."""
    ends = [channel._connection.closing.done for channel in channels]
    if ends:
        await asyncio.wait(ends, timeout=timeout)
    async with asyncio.TaskGroup() as closing:
        for channel, end in zip(channels, ends, strict=True):
            if not end.done():
                closing.create_task(channel.aclose())


async def _decide(
    decide: Decide,
    timeout: float,
    handler: Callable[[Channel], Awaitable[object]],
    channel: Channel,
) -> None:
    async with channel:
        if await decided(decide, channel, timeout):
            await _handle(handler, channel)


async def _handle(handler: Callable[[Channel], Awaitable[object]], channel: Channel) -> None:
    async with channel:
        try:
            await awaited("handler", handler(channel))
        except Exception as error:
            # A failed handler must not end the others, which serve other peers.
            handler_failed(channel, error)

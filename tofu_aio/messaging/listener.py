"""A listener as a stream of channels."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import Listener as AnyioListener
from anyio.abc import TaskGroup

from ..checks import checked_function, checked_seconds
from ..protocol.address import Address
from ..protocol.errors import ChannelClosed
from ..protocol.lifecycle import State
from ..transport.socket_attributes import Attributes
from .accepting.acceptor import Acceptor
from .accepting.admission import Admission
from .accepting.decision import Decide, decided
from .accepting.handler_errors import awaited, handler_failed
from .channel import Channel
from .delivery.mailbox import Mailbox
from .limits import DECISION_TIMEOUT


class Listener(AnyioListener[Channel]):
    """Accepts channels. Made by ``group.listen``.

    A connection shows up here once its Hello has arrived; what does not introduce itself in time,
    or not with a Hello, is closed and never seen. An anyio ``Listener[Channel]``.
    """

    def __init__(self, number: int, forget: Callable[[int], None]) -> None:
        self._number = number
        self._forget = forget
        self._ready: Mailbox[Channel] = Mailbox()
        self._admission: Admission | None = None
        self._acceptor: Acceptor | None = None

    def _start(self, acceptor: Acceptor, admission: Admission) -> None:
        """Begin to accept."""
        self._acceptor = acceptor
        self._admission = admission
        acceptor.start()

    @property
    def channel_number(self) -> int:
        """Its local number, 1 to 65534."""
        return self._number

    @property
    def address(self) -> Address:
        """Where it listens; the port is the one the system chose, if that was left to it.

        The path of a Unix socket is as it was given: a relative one means what was the working
        directory when it began to listen, and leads there only as long as that is the same.
        """
        assert self._acceptor is not None
        return self._acceptor.address

    @property
    def extra_attributes(self) -> Attributes:  # type: ignore[override]
        """The ``SocketAttribute``s of anyio that tell where it listens; none once it is closed."""
        assert self._acceptor is not None
        return self._acceptor.attributes()

    async def accept(self) -> Channel:
        """The next channel, open: its Hello is answered now. Cancelled, it loses none.

        Raises:
            ChannelClosed: the listener was closed.
            BusyResourceError: another task is accepting.
        """
        channel = await self.receive_hello()
        channel.accept()
        return channel

    async def receive_hello(self) -> Channel:
        """The next channel, undecided: look at its ``hello`` and ``peer``, then decide.

        ``channel.accept()`` opens it, ``await channel.reject(reason)`` tells the peer why not, and
        closing it says nothing. It is in the state HELLO_HEARD until then, or CLOSED when the peer
        has not waited. It counts as one of the listener's 128 strangers until it is accepted or
        gone, so an application that takes Hellos and does not decide shuts its own door; and it
        outlives the listener. Cancelled, this loses none.

        Raises:
            ChannelClosed, BusyResourceError: as ``accept``.
        """
        while True:
            channel = await self._ready.receive()
            if channel.state is State.HELLO_HEARD:  # else its peer has left again
                return channel

    @property
    def _waiting(self) -> int:
        """How many channels have said Hello, and nobody has taken. From any thread."""
        return len(self._ready.items)

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
        *,
        decide: Decide | None = None,
        decide_timeout: float = DECISION_TIMEOUT,
    ) -> None:
        """Accept channels and run ``handler(channel)`` for each, all at once, until closed.

        A channel is closed when its handler returns. One whose handler raises is aborted and the
        error is logged; the others, and the listener, go on. What a handler is told by a channel
        that ends, because the peer was lost or the channel is closed on this side, is no error: it
        may raise that too, and the log has one line about it at the level INFO. Nor is
        ``ExchangeFailed`` of one of its channel's exchanges; but a handler that lets it go has
        ended, and so has the channel, with a Bye: catch it where the others should go on.

        Args:
            handler: an async function that takes the channel.
            task_group: runs the handlers; without one, this waits for them before it returns.
            decide: an async function that looks at ``channel.hello`` and ``channel.peer`` before
                the channel is accepted. It accepts by returning, and refuses by raising
                ``Rejected("who are you?")``, say, whose text and status the peer is told. Of any
                other exception the peer learns only that the decision failed, and the log
                everything. It runs in the channel's own task and holds up no other; it is cancelled
                when the peer leaves. None accepts at once.
            decide_timeout: seconds for that, then the channel is refused.

        Raises:
            TypeError, ValueError: ``decide_timeout`` is no number of seconds, 0 or more; or
                ``handler`` or ``decide`` is no function.
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
                # Of a handler only sys.exit and the like get here, and they have stopped the loop
                # already. Now it cleans up, which cancels: what came again, or in a group, would
                # be printed as a crash.
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
            if decide is None:
                channel.accept()
                task_group.start_soon(_handle, handler, channel)
            else:
                task_group.start_soon(_decide, decide, decide_timeout, handler, channel)

    async def aclose(self) -> None:
        """Stop listening. Channels that it brought live on; those it has not are closed."""
        for channel in self._ready.close(ChannelClosed("the listener was closed")):
            channel.abort()
        if self._acceptor is not None:
            self._acceptor.close()
        forget, self._forget = self._forget, _already_forgotten
        forget(self._number)
        await asyncio.sleep(0)  # then the address is free

    def _introduced(self, channel: Channel) -> None:
        """A channel said Hello, or ended before it could; or it was accepted, or is gone."""
        assert self._admission is not None
        if channel.state is State.HELLO_HEARD:
            self._admission.introduced(channel._connection)
            self._ready.deliver([channel])
        elif channel.state is State.CLOSED:
            with contextlib.suppress(ValueError):  # nobody took it, and nobody is to keep it
                self._ready.items.remove(channel)
            self._admission.left(channel._connection)
        else:
            self._admission.accepted(channel._connection)

    def __repr__(self) -> str:
        return f"<Listener {self._number} {self.address}>"


def _already_forgotten(number: int) -> None:
    """Closing twice is no error."""


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
            # One bad conversation must not end the others: a server's tasks are its peers.
            handler_failed(channel, error)

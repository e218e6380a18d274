"""A channel group: channels with one owner, and one mailbox for those made with messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self, Unpack

from ..checks import checked_seconds
from ..protocol.address import Address, parse_address
from ..protocol.binary_header import BinaryHeader
from ..protocol.errors import ChannelClosed, ConnectFailed
from ..protocol.lifecycle import State
from ..protocol.message import Message
from ..protocol.op_code import OpCode
from ..protocol.pool import Pool
from ..protocol.text_headers import TextHeaders
from ..transport import transports
from ..transport.tls import client_layer, server_layer
from .accepting.admission import Admission
from .accepting.bounds import Bounds
from .channel import Channel
from .connection.connection import Connection
from .connection.dialling import attach, check_accepted, hello_headers, own_headers
from .flow_control.read_gate import ReadGate
from .flow_control.usage import PoolUsage, of_messages
from .limits import CONNECT_TIMEOUT
from .listener import Listener
from .members import Member, Members, Numbers
from .opening import Connecting, Listening, opens
from .options import ConnectOptions, ListenOptions, ReconnectOptions, names_checked
from .posting.posted import PostedListener
from .posting.posting import Posting, group_closed
from .reconnecting import Reconnecting


class ChannelGroup:
    """Channels that are used and closed together. Made by ``engine.create_group``.

    It has two APIs, which make the same kind of channels. With the channel API, ``listen`` and
    ``connect`` make channels that are streams, each with its own mailbox. With the message API,
    ``post`` and ``receive`` exchange plain messages, including those that make and end channels,
    and everything arrives in the group's one mailbox. ``post`` and ``update_receiver`` may be
    called from any thread, all other methods only from the event loop's thread.

    An async context manager: leaving it closes all listeners and channels of the group.
    """

    def __init__(
        self,
        gate: ReadGate,
        numbers: Numbers,
        closed: Callable[[ChannelGroup], None],
    ) -> None:
        self._gate = gate
        self._owner_loop = gate.owner_loop
        self._on_closed = closed
        self._members = Members(numbers)
        self._posting = Posting(gate, self._members)
        self._deadlines: dict[asyncio.Timeout, None] = {}  # of calls that closing interrupts
        # One object for all members: naming a bound method makes a new object each time.
        self._forget = self._members.forget

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        waiting = len(self._posting.mailbox.items)
        return f"<ChannelGroup {state} channels={len(self._members)} waiting={waiting}>"

    async def __aenter__(self) -> Self:
        self._owner_loop.check()
        if self._closed:
            raise group_closed()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close listeners, then all channels concurrently, with Byes. May be called again.

        It takes a bounded time. Messages that any thread has posted before are sent before the
        Byes. In a forked child this does nothing.
        """
        if self._owner_loop.in_parent:
            return
        self._posting.close()
        if not self._owner_loop.alive:
            return  # the loop is closed, and there is nothing left to close
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(0)  # a time in the past: it expires now
        opening = list(self._posting.openings.tasks.values())
        for task in opening:
            task.cancel()
        async with asyncio.TaskGroup() as closing:
            # Tasks start in the order in which they are made, so listeners stop first.
            for member in sorted(self._members.values(), key=_is_no_listener):
                closing.create_task(member.aclose())
            if opening:
                await asyncio.wait(opening)
        self._on_closed(self)

    def _abort(self) -> None:
        """Reset all connections, so that closing, begun or not, ends within a few turns."""
        error = ChannelClosed("closing was interrupted")
        for connection in self._members.connections:
            connection.closing.close_at_once(error)

    # --- streams --------------------------------------------------------------------------

    @opens(Listening)
    @names_checked(ListenOptions)
    async def listen(
        self, address: str | Address | None = None, **options: Unpack[ListenOptions]
    ) -> Listener:
        """Listen for channels.

        ``listener = await group.listen(address)``, or ``async with group.listen(address) as
        listener:``, which closes it. A cancelled call leaves nothing open.

        Args:
            address: ``tcp://host:port``, with port 0 for any free port and host ``*`` for all
                addresses of the machine; ``uds:///path``; ``uds://@name`` on Linux;
                ``nats://broker/service``; or ``fd://3`` for a socket that this process has
                inherited as file descriptor 3. If a host name has several addresses, the first is
                used. None with ``sock=``.
            options: see ``ListenOptions``.

        Returns:
            Listening: to be awaited or entered, once. Nothing is done or raised before that.

        Raises:
            InvalidAddress: the address cannot be parsed, or is too long for a socket.
            ListenFailed: the host has no address, the system refuses it, or the socket given is
                closed, connected or not bound. The message says why.
            WrongAddress: this system has no such sockets, or they do not have such an option.
            ShutdownStarted: the engine was entered in another event loop, which is closed.
            RuntimeError: the engine was entered in another event loop, which is still open.
            TypeError, ValueError: an option is unknown, has the wrong type or is out of range. The
                message names it. Or there are an address and ``sock``, or neither.
        """
        self._owner_loop.check()
        with transports.listening_place(address, options.get("sock")) as (where, sock):
            return await self._listen(where, sock, options)

    async def _listen(
        self, where: Address, given: socket.socket | None, options: ListenOptions
    ) -> Listener:
        layer = server_layer(where, options.get("ssl"))
        welcome = TextHeaders(own_headers(where, options.get("heartbeat", "auto"))).encode()
        bounds = Bounds.of(where, options)
        self._posting.check_open()
        number = self._members.new_number()
        listener = Listener(number, self._members)
        introduced, forget = listener._introduced, self._forget  # one object each for all channels

        def admit() -> Connection:
            connection = self._new_connection(State.HELLO_AWAITED)
            self._members[connection.number] = Channel(connection, introduced, forget, welcome)
            return connection

        try:
            acceptor = await transports.listen(
                where,
                options.get("keepalive"),
                reuse_port=options.get("reuse_port", False),
                mode=options.get("mode"),
                sock=given,
                context=options.get("ssl"),
            )
            admission = Admission(acceptor.address, admit, layer, self._gate.count_refusal, bounds)
            listener._start(acceptor, admission)
        except BaseException:
            self._forget(number)
            raise
        self._members[number] = listener
        if self._closed:
            await listener.aclose()
            raise group_closed()
        return listener

    @opens(Connecting)
    @names_checked(ConnectOptions)
    async def connect(self, address: str | Address, **options: Unpack[ConnectOptions]) -> Channel:
        """Connect to a listener, and return the channel once the listener has accepted the Hello.

        ``channel = await group.connect(address)``, or ``async with group.connect(address) as
        channel:``, which ends it with a Bye. A cancelled call leaves nothing open.

        Args:
            address: the listener's.
            options: see ``ConnectOptions``.

        Returns:
            Connecting: to be awaited or entered, once. Nothing is done or raised before that.

        Raises:
            InvalidAddress: the address cannot be parsed, or is too long for a socket.
            UdsPathNotFound: there is no socket at this path.
            ConnectFailed: the host has no address, nothing listens there, TLS fails, or the peer
                refuses, is too slow, or speaks another protocol. For a refusal, the text has the
                listener's reason, and ``__cause__`` its status.
            WrongAddress: the address can only be listened on, or its transport has no TLS.
            ShutdownStarted, RuntimeError: the engine's event loop is closed, or is not this one.
            TypeError, ValueError: an option is unknown, has the wrong type or is out of range.
        """
        self._owner_loop.check()
        where = parse_address(address)
        layer = client_layer(where, options.get("ssl"), options.get("server_hostname"))
        timeout = checked_seconds("timeout", options.get("timeout", CONNECT_TIMEOUT))
        headers = hello_headers(where, options.get("headers", ()), options.get("heartbeat", "auto"))
        hello = Message(OpCode.HELLO_REQUEST, options.get("body", b""), headers)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection = self._new_connection(State.CONNECTING)

        def introduced(_: Channel) -> None:
            if not answered.done():
                answered.set_result(None)

        channel = Channel(connection, introduced, self._forget)
        self._members[connection.number] = channel
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                self._deadlines[deadline] = None
                await attach(
                    connection,
                    where,
                    layer(connection),
                    options.get("keepalive"),
                    options.get("ssl"),
                )
                if connection.end is None:
                    connection.queue.enqueue_message(hello)
                await answered
            if self._closed:
                raise group_closed()
            check_accepted(channel, where, tls=options.get("ssl") is not None)
            channel._dispatcher.report_no_more()
        except TimeoutError:
            channel.abort()
            raise (group_closed() if self._closed else _too_slow(where, timeout)) from None
        except BaseException:
            channel.abort()
            raise
        finally:
            self._deadlines.pop(deadline, None)
        return channel

    def reconnecting(
        self,
        address: str | Address,
        *others: str | Address,
        **options: Unpack[ReconnectOptions],
    ) -> Reconnecting:
        """Channels to a listener, one after another: ``async for channel in ...``.

        Each iteration of the loop gets a fresh channel, once there is one. Failures that may pass
        are retried: a listener that is absent or refuses, or a host without an address. The first
        attempt is made at once, later ones after a random wait below a bound that grows from 0.1
        to 30 seconds. The bound starts anew when an iteration has lasted longer than 30 seconds.
        A channel is closed at the end of its iteration, however that ends. To stop, leave the loop.

        Several addresses are tried one after another, with a wait only when all have failed. The
        next iteration starts with the address that worked, unless its channel was lost soon.

        The log gets one warning when no address can be reached, and one line when one can be
        reached again. Each failed attempt is logged at DEBUG.

        Args:
            address: as for ``connect``.
            others: more addresses, in order of preference: ``reconnecting(*addresses)``.
            options: ``backoff``, ``on_failure``, and those of ``connect``; ``headers`` and ``body``
                may be functions, called for each attempt. See ``ReconnectOptions``.

        Raises:
            InvalidAddress, InvalidMessage, InvalidHeadersLen: no attempt could succeed. Any other
                error that another attempt would not cure is raised by the first attempt.
            TypeError: ``backoff`` is not a Backoff, or ``on_failure`` is not a function.
        """

        async def here() -> ChannelGroup:
            return self

        return Reconnecting(here, [address, *others], **options)

    # --- messages -------------------------------------------------------------------------

    def post(self, message: Message) -> BinaryHeader:
        """Carry out a message, and return its header, with the numbers it was given. Never waits.

        WELCOME_REQUEST with ``~listen_on``, and HELLO_REQUEST with ``~connect_to``, make a
        channel. All other messages go to ``message.channel_number``. The results arrive through
        ``receive``. Changing the message after posting has no effect.

        May be called from any thread. Each thread's messages are sent in the order in which it
        posted them. From a thread other than the loop's, the message is also checked at once, but
        sent a moment later. If it cannot be sent by then, for example because the channel has
        ended, it comes back through ``receive`` with a status that says why, before the channel's
        channel_closed.

        Raises:
            ChannelClosed: the group was closed.
            ShutdownStarted: the event loop was closed while the engine was still open.
            NullMessage: ``message`` is None.
            TypeError: ``message`` is something else.
            InvalidChannelNumber: no channel has this number, or one was given to make a channel.
            InvalidChannelGroup: the channel belongs to another group.
            InvalidAddress: the header with the address is missing or malformed.
            NotAllowed: the channel is not in a state for this message.
            TofuError: as ``Channel.post``.
        """
        return self._posting.post(message)

    def update_receiver(self, message: Message | None = None) -> None:
        """Put a message at the end of the mailbox, for ``receive`` to return. From any thread.

        It keeps its order with messages that the same thread posts. Nothing is sent to a peer.

        Args:
            message: one of the application's own, which is received as it is now, with its
                permit; None makes a wake-up: a notification with the status receiver_update.

        Raises:
            TypeError: it is not a message.
            InvalidBodyLen, InvalidMessageId: an attribute has a value that does not fit.
            ChannelClosed: the group was closed.
            ShutdownStarted: the event loop was closed while the engine was still open.
        """
        self._posting.update_receiver(message)

    async def receive(self) -> Message:
        """The next message of the group's mailbox. Cancelling the call loses no message.

        It is either a peer's message or a notification of the engine; ``origin`` says which. The
        engine's are the answer to WELCOME_REQUEST; own messages that failed, with the reason as
        ``status``; pool_empty; receiver_update; the status of a lost peer; and channel_closed,
        which is the last message of each channel, also of one that could not connect. No other
        message has the status channel_closed. Its message id is that of the HELLO_REQUEST or
        WELCOME_REQUEST that made the channel, or 0 for a channel that a peer has made.

        Raises:
            ChannelClosed: the group was closed.
            BusyResourceError: another task is receiving.
        """
        return await self._posting.receive()

    # --- the parts ------------------------------------------------------------------------

    @property
    def _closed(self) -> bool:
        return self._posting.closed

    def _usage(self, pool: Pool) -> PoolUsage:
        """What its channels hold of a pool, all together."""
        return self._members.usage(pool) + of_messages(self._posting.mailbox.items, pool)

    def _unreceived(self) -> list[Message]:
        """The messages that the application has not received, also those that are arriving."""
        return [*self._posting.mailbox.items, *self._members.unreceived()]

    async def _pause(self, seconds: float) -> None:
        """Wait, but only until the group is closed."""
        deadline = asyncio.timeout(0 if self._closed else seconds)
        try:
            async with deadline:
                self._deadlines[deadline] = None
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return
        finally:
            self._deadlines.pop(deadline, None)

    def _new_connection(self, state: State) -> Connection:
        self._posting.check_open()
        return Connection(self._gate, state, self._members.new_number())


def _too_slow(where: Address, timeout: float) -> ConnectFailed:
    return ConnectFailed(
        f"{where} did not accept the channel within {timeout:g} s: is it a tofu peer, and does it "
        "accept?"
    )


def _is_no_listener(member: Member) -> bool:
    return not isinstance(member, Listener | PostedListener)

"""A channel group: channels with one owner, and one mailbox for those made by messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ssl import SSLContext
from threading import get_ident
from types import TracebackType
from typing import Final, Self, TypeAlias, Unpack
from weakref import WeakSet

from ..checks import checked_seconds
from ..protocol.address import Address, parse_address
from ..protocol.binary_header import UNASSIGNED_CHANNEL, BinaryHeader
from ..protocol.errors import (
    ChannelClosed,
    ConnectFailed,
    InvalidAddress,
    InvalidChannelGroup,
    InvalidChannelNumber,
    NotAllowed,
    TofuError,
    WrongAddress,
    again,
)
from ..protocol.lifecycle import State
from ..protocol.message import (
    Message,
    next_message_id,
    notification,
    null_message,
    returned,
    snapshot,
)
from ..protocol.op_code import OpCode
from ..protocol.pool import Pool
from ..protocol.status import Status
from ..protocol.text_headers import CONNECT_TO, LISTEN_ON, HeadersLike, TextHeaders
from ..transport import transports
from ..transport.tls import as_it_is, client_layer, server_layer
from ..worker_threads import RevocableCall
from .accepting.acceptor import Acceptor
from .accepting.admission import Admission, Bounds
from .channel import Channel
from .connecting import connecting
from .connection.connection import Connection
from .connection.dialling import attach, check_accepted, hello_headers, own_headers
from .connection.heartbeat import HeartbeatOption, interval_of
from .delivery.mailbox import Mailbox
from .flow_control.read_gate import ReadGate
from .flow_control.receipts import inbox
from .flow_control.usage import Holdings, of_messages
from .limits import CONNECT_TIMEOUT, HELLO_TIMEOUT
from .listener import Listener
from .numbers import Claim, NumberedTable
from .options import ReconnectOptions
from .posting.posted import PostedChannel, PostedListener, come_back, no_channel
from .reconnecting import Reconnecting
from .threads.call_queue import CallQueue

Postable: TypeAlias = Channel | PostedChannel | PostedListener
Member: TypeAlias = Postable | Listener
"""What a group has under a channel number."""

_OPENINGS: Final = frozenset({OpCode.WELCOME_REQUEST, OpCode.HELLO_REQUEST})


class ChannelGroup:
    """Channels that are used, and closed, together. Made by ``engine.create_group``.

    Two altitudes over the same channels' life: ``listen`` and ``connect`` make channels that are
    streams with mailboxes of their own; ``post`` and ``receive`` exchange plain messages, among
    them those that make and end channels, and everything comes to the group's one mailbox.
    ``post`` and ``update_receiver`` may be called from any thread, all else from the event loop's.

    An async context manager: leaving it closes all that the group has.
    """

    def __init__(
        self,
        gate: ReadGate,
        numbers: NumberedTable[ChannelGroup],
        closed: Callable[[ChannelGroup], None],
    ) -> None:
        self._gate = gate
        self._numbers = numbers
        self._on_closed = closed
        self._members: dict[int, Member] = {}
        self._ended: WeakSet[Channel] = WeakSet()  # that still have something to be received
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._connecting: dict[asyncio.Timeout, None] = {}
        self._mailbox = Mailbox(inbox())
        self._held_up: dict[Connection, None] = {}  # see PostedChannel
        self._home = gate.home
        self._calls = CallQueue(gate.home)
        # Each member keeps it, and a bound method is a new one whenever it is named.
        self._forget = self._remove

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        waiting = len(self._mailbox.items)
        return f"<ChannelGroup {state} channels={len(self._members)} waiting={waiting}>"

    async def __aenter__(self) -> Self:
        self._home.check()
        if self._closed:
            raise _group_closed()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close listeners, then channels with their Byes, all at once. Bounded, repeatable.

        What was posted before, from whatever thread, is sent before the Byes. In a forked child
        nothing is done.
        """
        if self._home.in_parent:
            return
        self._calls.close(_group_closed())
        for message in self._mailbox.close(_group_closed()):
            message.release()
        if not self._home.alive:
            return  # its loop took with it all that could be closed
        for deadline in self._connecting:
            if not deadline.expired():
                deadline.reschedule(0)  # long ago
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        async with asyncio.TaskGroup() as closing:
            # Tasks begin in the order in which they are made: nobody new is let in first of all.
            for member in sorted(self._members.values(), key=_brings_nobody):
                closing.create_task(member.aclose())
            if opening:
                await asyncio.wait(opening)
        self._on_closed(self)

    def _abort(self) -> None:
        """Wait for no peer: closing, begun or not, ends in a few turns of the loop."""
        error = ChannelClosed("closing was interrupted")
        for member in list(self._members.values()):
            if isinstance(member, Channel | PostedChannel):
                member._connection.closing.close_at_once(error)

    # --- streams --------------------------------------------------------------------------

    async def listen(
        self,
        address: str | Address,
        *,
        ssl: SSLContext | None = None,
        keepalive: float | None = None,
        reuse_port: bool = False,
        mode: int | None = None,
        hello_timeout: float = HELLO_TIMEOUT,
        heartbeat: HeartbeatOption = "auto",
        max_channels: int | None = None,
        max_connections_per_address: int | None = None,
        idle_timeout: float | None = None,
    ) -> Listener:
        """Listen for channels.

        Args:
            address: ``tcp://host:port``, with port 0 for any free one and host ``*`` for all of
                the machine's addresses; ``uds:///path``; or ``uds://@name`` on Linux. Of a name
                that has several addresses it is the first; ``*`` serves them all.
            ssl: speak TLS (TCP only), with this context; one that demands certificates shows
                them in ``channel.peer``.
            keepalive: see ``connect``; for the channels that it brings.
            reuse_port: let several processes listen on this TCP port, each with this option. The
                kernel deals the connections out among them; Windows cannot.
            mode: the permissions of a Unix socket's file, set before anybody can connect: 0o600
                for the owner alone, 0o660 for a group too. None leaves them to the umask. Who may
                write to the file may connect. An abstract name has no file: it is open to every
                user of the machine.
            hello_timeout: seconds that a connection may take to introduce itself, TLS included.
            heartbeat: seconds; see ``connect``. Clients may ask for a shorter interval, of a
                second or more.
            max_channels: how many channels of this listener may be open at once, those that are
                about to introduce themselves among them. Beyond it connections wait, in order of
                arrival, until one closes; beyond 1024 that wait they are refused. While one waits,
                a channel whose peer takes no part in heartbeats gives way to it, with a Bye, once
                that peer has neither sent nor taken anything for three intervals, unless something
                that it sent is unread or kept here. None for any number.
            max_connections_per_address: how many connections one address may have at once (TCP
                only), from the moment of acceptance until the socket is closed; more are refused.
                Of IPv6 the first 64 bits count, for a host has all addresses of such a network.
                None for any number.
            idle_timeout: seconds, 0.01 or more. A channel over which no message has come or gone
                for so long is closed with a Bye, within a quarter more; heartbeats are no messages.
                Nor is it closed while the peer goes on taking what was queued for it.
                What is used there raises ``ChannelClosed``, and the peer gets the Bye. Choose more
                than a handler takes for a request. None never closes one.

        Raises:
            InvalidAddress: it cannot be parsed, or is too long for a socket.
            ListenFailed: the host has no address, or the system refuses it; the message says why.
            WrongAddress: this system has no such sockets, or they have no such option.
            ShutdownStarted, RuntimeError: the engine was entered in another event loop; that was
                closed, or is not.
            TypeError, ValueError: an option makes no sense: the message says which.
        """
        self._home.check()
        where = parse_address(address)
        layer = server_layer(where, ssl)
        welcome = TextHeaders(own_headers(where, heartbeat)).encode()
        bounds = Bounds(
            hello_timeout=hello_timeout,
            max_channels=max_channels,
            max_connections_per_address=max_connections_per_address,
            idle_timeout=idle_timeout,
            heartbeat=interval_of(heartbeat, where),
        )
        if max_connections_per_address is not None and not transports.transport_to(where).networked:
            raise WrongAddress(
                f"{where}: max_connections_per_address is for TCP: who connects to a Unix socket "
                "has no address"
            )
        number = self._new_number()
        listener = Listener(number, self._forget)
        introduced, forget = listener.introduced, self._forget  # one of each for all channels

        def admit() -> Connection:
            connection = self._new_connection(State.HELLO_AWAITED)
            self._members[connection.number] = Channel(connection, introduced, forget, welcome)
            return connection

        try:
            sock = await transports.listen(where, keepalive, reuse_port=reuse_port, mode=mode)
            local = transports.transport_to(where).bound(sock)
            admission = Admission(local, admit, layer, self._gate.count_refusal, bounds)
            listener.start(Acceptor(sock, local, admission), admission)
        except BaseException:
            self._forget(number)
            raise
        self._members[number] = listener
        if self._closed:
            await listener.aclose()
            raise _group_closed()
        return listener

    @connecting
    async def connect(
        self,
        address: str | Address,
        *,
        headers: HeadersLike = (),
        body: bytes = b"",
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
        keepalive: float | None = None,
        timeout: float = CONNECT_TIMEOUT,
        heartbeat: HeartbeatOption = "auto",
    ) -> Channel:
        """Connect to a listener and say Hello: a channel, once it has accepted.

        ``channel = await group.connect(address)``, or ``async with group.connect(address) as
        channel:``, which closes it at the end with a Bye. Cancelled, it leaves nothing open.

        Args:
            address: as the listener has it.
            headers: of the Hello, after the engine's own, whose names begin with ``~``.
            body: of the Hello.
            ssl: speak TLS (TCP only), with this context. One that never verified anything, as
                ``ssl.SSLContext()`` is made, is refused; one for clients that was told not to, by
                ``verify_mode = ssl.CERT_NONE``, is taken.
            server_hostname: whom the listener's certificate must name; by default the host.
            keepalive: seconds of silence after which the kernel asks whether the peer is still
                there, 0.01 to 32,767; a peer that is not is lost within twice that time. None never
                asks. Not needed over Unix sockets, whose kernel knows.
            timeout: seconds, for all of it.
            heartbeat: seconds, 0.01 to 86,400. Either end sends a heartbeat when it has sent
                nothing else for so long, and a peer that is silent for three times as long is
                lost. It is enough that one end asks; if both do, the shorter interval counts, but a
                client gets none below a second unless the listener's own is as short. A peer that
                does not know heartbeats, the Zig library say, is never sent any. "auto" is
                20 over TCP, and none over Unix sockets, whose kernel tells when the peer's process
                has ended. None asks for none.

        Returns:
            Connecting: to be awaited or entered, once. Nothing is done or raised before that.

        Raises:
            InvalidAddress: the address cannot be parsed, or is too long for a socket.
            UdsPathNotFound: there is no socket at this path.
            ConnectFailed: the host has no address; or nobody is there, refuses, does not answer in
                time, or does not speak the protocol; or TLS fails. What the listener gave as the
                reason of a refusal is in the text, and its status in that of ``__cause__``.
            WrongAddress: the address is only good for listening, or has no TLS.
            ShutdownStarted, RuntimeError: the engine was entered in another event loop; that was
                closed, or is not.
            TypeError, ValueError: an option makes no sense: the message says which.
        """
        self._home.check()
        where = parse_address(address)
        layer = client_layer(where, ssl, server_hostname)
        checked_seconds("timeout", timeout)
        hello = Message(OpCode.HELLO_REQUEST, body, hello_headers(where, headers, heartbeat))
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
                self._connecting[deadline] = None
                await attach(connection, where, layer(connection), keepalive)
                if connection.end is None:
                    connection.queue.enqueue_message(hello)
                await answered
            if self._closed:
                raise _group_closed()
            check_accepted(channel, where, tls=ssl is not None)
            channel._dispatcher.report_no_more()
        except TimeoutError:
            channel.abort()
            if self._closed:
                raise _group_closed() from None
            raise ConnectFailed(
                f"{where} did not accept the channel within {timeout:g} s: is it a tofu peer, "
                "and does it accept?"
            ) from None
        except BaseException:
            channel.abort()
            raise
        finally:
            self._connecting.pop(deadline, None)
        return channel

    def reconnecting(
        self,
        address: str | Address,
        *others: str | Address,
        **options: Unpack[ReconnectOptions],
    ) -> Reconnecting:
        """Channels to a listener, one after another: ``async for channel in ...``.

        Each turn of the loop brings a fresh channel, when there is one. What may pass, a listener
        that is not there or refuses, a host without an address, is waited for: the first attempt
        is made at once, later ones after a random wait below a bound that grows from 0.1 to 30
        seconds, and starts anew when a turn has taken longer than that. A channel is closed at the
        end of its turn, however that comes; leave the loop to end it all.

        Several addresses are tried one after another, and a wait follows only when all have failed.
        The next turn begins with the one that worked, unless its channel was lost soon.

        The log has one warning when none of them can be reached, and one line when one can again;
        each attempt that fails is at the level DEBUG.

        Args:
            address: as for ``connect``.
            others: more of them, in order of preference: ``reconnecting(*addresses)``.
            options: ``backoff``, ``on_failure``, and those of ``connect``; ``headers`` and ``body``
                may be functions, called for each attempt. See ``ReconnectOptions``.

        Raises:
            InvalidAddress, InvalidMessage, InvalidHeadersLen: no attempt could succeed. What is
                wrong otherwise, and no other attempt would cure, is raised by the first one.
            TypeError: ``backoff`` or ``on_failure`` is something else.
        """

        async def here() -> ChannelGroup:
            return self

        return Reconnecting(here, [address, *others], **options)

    # --- messages -------------------------------------------------------------------------

    def post(self, message: Message) -> BinaryHeader:
        """Do what the message says, and return its header with the numbers it got. Never waits.

        WELCOME_REQUEST with ``~listen_on``, and HELLO_REQUEST with ``~connect_to``, make a
        channel; all others go to ``message.channel_number``. What comes of it arrives through
        ``receive``. Posting takes the message as it is now.

        From any thread. Each thread's messages go out in the order in which it posted them. In
        another thread than the loop's the message is checked at once as well, and sent a moment
        later; what fails by then, because the channel has ended meanwhile say, comes back through
        ``receive`` with the status that says why, before the channel's channel_closed.

        Raises:
            ChannelClosed: the group was closed.
            ShutdownStarted: the event loop was closed, and not the engine before it.
            NullMessage: there is no message.
            TypeError: it is something else.
            InvalidChannelNumber: no channel has this number, or one was given to make a channel.
            InvalidChannelGroup: the channel belongs to another group.
            InvalidAddress: the header with the address is missing or malformed.
            NotAllowed: the channel is not in a state for this message.
            TofuError: as ``Channel.post``.
        """
        if get_ident() != self._home.thread:
            return self._post_from_elsewhere(message)
        self._check_open()
        try:
            opening = message.op_code in _OPENINGS
        except AttributeError:
            raise null_message(message) from None
        if opening:
            return self._open_soon(message)
        number = message.channel_number
        member = self._members.get(number)
        if member is None or isinstance(member, Listener):
            raise self._no_peer(number)
        return member.post(message)

    def update_receiver(self, message: Message | None = None) -> None:
        """Put a message at the end of the mailbox, for ``receive`` to return. From any thread.

        In order with what the same thread posts. Nothing of it travels.

        Args:
            message: one of the application's own, which is received as it is now, with its
                permit; None makes a wake-up: a notification with the status receiver_update.

        Raises:
            TypeError: it is no message.
            InvalidBodyLen, InvalidMessageId: an attribute was set to what does not fit.
            ChannelClosed: the group was closed.
            ShutdownStarted: the event loop was closed, and not the engine before it.
        """
        if message is None:
            self._update(notification(Status.RECEIVER_UPDATE))
            return
        own = snapshot(message)
        with _handing_over(message, own):
            self._update(own)

    def _update(self, update: Message) -> None:
        if get_ident() != self._home.thread:
            self._calls.put(RevocableCall(partial(self._mailbox.put, [update])))
        else:
            self._check_open()
            self._mailbox.put([update])

    async def receive(self) -> Message:
        """The next message of the group's mailbox. Cancelled, it loses none.

        Peers' messages, and what the engine has to say: ``origin`` tells which. The engine's are
        the answer to WELCOME_REQUEST; one's own messages that failed, ``status`` saying why;
        pool_empty; receiver_update; a lost peer's status; and channel_closed, the last of each
        channel, one that could not connect among them. No other message has that status, and its
        message id is that of the HELLO_REQUEST or WELCOME_REQUEST that made the channel, or 0 for
        a channel that a peer has made.

        Raises:
            ChannelClosed: the group was closed.
            BusyResourceError: another task is receiving.
        """
        mailbox = self._mailbox
        while not mailbox.items:
            arrival = mailbox.arrival()
            for connection in list(self._held_up):
                if not connection.suspended:
                    del self._held_up[connection]
                else:
                    connection.lend()
            await arrival
        return mailbox.items.popleft()

    def pool_exhausted(self, number: int) -> bool:
        """Tell it, if the channel that found no permit belongs to the mailbox."""
        if not isinstance(self._members.get(number), PostedChannel):
            return False
        self._mailbox.put([notification(Status.POOL_EMPTY)])
        return True

    def _holdings(self, pool: Pool) -> Holdings:
        """What it has in hand of a pool, all its channels together."""
        members = (*self._members.values(), *self._ended)
        channels = [m._holdings(pool) for m in members if isinstance(m, Channel | PostedChannel)]
        return sum(channels, of_messages(self._mailbox.items, pool))

    def _awaited(self) -> int:
        """Requests under way, on all channels together."""
        return sum(m._dispatcher.awaited for m in self._members.values() if isinstance(m, Channel))

    def _unreceived(self) -> list[Message]:
        """The messages that the application has not received, those under way among them."""
        messages = list(self._mailbox.items)
        for member in (*self._members.values(), *self._ended):
            if isinstance(member, Channel):
                messages += member._mailbox.items
            if isinstance(member, Channel | PostedChannel):
                arriving = member._connection.decoder.arriving
                messages += [arriving.message] if arriving is not None else []
        return messages

    # --- the parts ------------------------------------------------------------------------

    @property
    def _closed(self) -> bool:
        return self._mailbox.end is not None

    async def _pause(self, seconds: float) -> None:
        """Wait; if the group is closed, no longer than that."""
        deadline = asyncio.timeout(0 if self._closed else seconds)
        try:
            async with deadline:
                self._connecting[deadline] = None
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return
        finally:
            self._connecting.pop(deadline, None)

    def _check_open(self) -> None:
        if self._mailbox.end is not None:
            raise again(self._mailbox.end)

    def _new_number(self) -> int:
        self._check_open()
        return self._numbers.add(self)

    def _new_connection(self, state: State) -> Connection:
        return Connection(self._gate, state, self._new_number())

    def _remove(self, number: int) -> None:
        # The number first: with a number and no member it would look, to another thread, like a
        # channel that is being opened.
        self._numbers.remove(number)
        member = self._members.pop(number, None)
        if isinstance(member, Channel) and member._mailbox.items:
            self._ended.add(member)

    def _no_peer(self, number: int) -> TofuError:
        """Why nothing can be posted to this number."""
        if number in self._members:
            return NotAllowed(f"channel {number} is a listener: it has no peer to post to")
        if number == UNASSIGNED_CHANNEL:
            return InvalidChannelNumber("the message has no channel: set its channel_number")
        owner = self._numbers.get(number)
        opening = self._opening.get(number)
        if owner is None or (opening is not None and opening.done()):
            return no_channel(number)
        if owner is not self:
            return InvalidChannelGroup(f"channel {number} belongs to another group")
        return NotAllowed(f"channel {number} is not open yet: wait for the answer that it is")

    # --- from other threads ---------------------------------------------------------------

    def _post_from_elsewhere(self, message: Message) -> BinaryHeader:
        """Check here and now; do the rest at home."""
        own = snapshot(message)
        if own.op_code in _OPENINGS:
            return self._open_soon(message)
        self._check_open()
        # Marked: of a channel that ends, what was posted before comes back, then its end.
        mark = object()
        try:
            self._calls.putting.add(mark)
            own.message_id = self._checked(own)
            header = own.header_as(own.channel_number, own.message_id)
            with _handing_over(message, own):
                self._calls.put(RevocableCall(partial(self._post_late, own)))
            return header
        finally:
            self._calls.putting.discard(mark)

    def _checked(self, message: Message) -> int:
        """The id that a message of another thread gets, if it may be posted."""
        # Looked at before the channel: what is still to be done may change what it allows.
        unsettled = self._calls.pending
        number = message.channel_number
        member = self._members.get(number)
        try:
            if member is None or isinstance(member, Listener):
                raise self._no_peer(number)
            return member.check(message)
        except TofuError as error:
            if self._closed:
                raise _group_closed() from None
            if not (unsettled and isinstance(error, NotAllowed)):
                raise
            return message.message_id or next_message_id()

    def _post_late(self, message: Message) -> None:
        """Post what another thread did; it comes back if that is no longer possible."""
        try:
            self.post(message)
        except TofuError as error:
            self._mailbox.put([come_back(message, error, message.channel_number)])

    # --- openings -------------------------------------------------------------------------

    def _open_soon(self, message: Message) -> BinaryHeader:
        """Check what makes a channel, give it its numbers, and begin. From any thread.

        In the loop that is at once; where that is not running, as soon as it does.
        """
        if message.channel_number != UNASSIGNED_CHANNEL:
            raise InvalidChannelNumber(
                f"{message.op_code.name} makes a channel: its channel number must be 0"
            )
        name = LISTEN_ON if message.op_code is OpCode.WELCOME_REQUEST else CONNECT_TO
        if name not in message.headers:
            raise InvalidAddress(f"{message.op_code.name} needs the header {name}")
        where = parse_address(message.headers[name])
        own = snapshot(message)
        own.message_id = own.message_id or next_message_id()
        opening: RevocableCall | None = None
        claim = Claim()
        try:
            self._check_open()
            number = self._numbers.claim(self, claim)
            opening = RevocableCall(partial(self._open_now, number, own, where))
            with _handing_over(message, own):
                if get_ident() == self._home.thread and self._home.running:
                    opening.make()
                else:
                    self._calls.put(opening)
        except BaseException:
            if opening is None or opening.revoke():
                self._numbers.give_up(claim)
            raise
        finally:
            self._numbers.settle(claim)
        return own.header_as(number, own.message_id)

    def _open_now(self, number: int, message: Message, where: Address) -> None:
        if message.op_code is OpCode.HELLO_REQUEST:
            # At once, so that it can be given up from now on.
            connection = Connection(self._gate, State.CONNECTING, number)
            channel = self._posted_channel(connection, hello=message)
            opening = self._open_channel(channel, connection, message, where)
        else:
            opening = self._open_listener(number, message, where)
        task = asyncio.create_task(opening, name=f"tofu open {where}")
        self._opening[number] = task
        task.add_done_callback(partial(self._opened, number))

    def _posted_channel(
        self,
        connection: Connection,
        *,
        hello: Message | None = None,
        admission: Admission | None = None,
    ) -> PostedChannel:
        """Make a connection one whose messages go to the mailbox."""
        channel = PostedChannel(
            connection,
            self._mailbox,
            self._forget,
            self._calls.follow,
            held_up=self._held_up,
            hello=hello,
            admission=admission,
        )
        self._members[connection.number] = channel
        return channel

    def _opened(self, number: int, task: asyncio.Task[None]) -> None:
        if self._opening.get(number) is not task:
            return  # a reset channel went on connecting until its number was given out again
        del self._opening[number]
        # A channel gives its number back itself, maybe before this; where there is none yet, the
        # task may not even have begun.
        if number not in self._members and self._numbers.get(number) is self:
            self._forget(number)

    async def _open_listener(self, number: int, welcome: Message, where: Address) -> None:
        """Listen, and answer; if it fails, the answer says why."""
        try:
            address = await self._listen_for_messages(number, welcome.message_id, where)
            headers: HeadersLike = {LISTEN_ON: address.to_header()}
            status, reason = Status.SUCCESS, b""
        except TofuError as error:
            headers, status, reason = welcome.headers, error.status, str(error).encode()
        answer = Message(OpCode.WELCOME_RESPONSE, reason, headers, welcome.message_id)
        self._mailbox.put([returned(answer, status, number)])

    async def _listen_for_messages(self, number: int, welcome_id: int, where: Address) -> Address:
        def admit() -> Connection:
            connection = self._new_connection(State.HELLO_AWAITED)
            self._posted_channel(connection, admission=admission)
            return connection

        sock = await transports.listen(where)
        local = transports.transport_to(where).bound(sock)
        admission = Admission(local, admit, as_it_is, self._gate.count_refusal)
        acceptor = Acceptor(sock, local, admission)
        acceptor.start()
        self._members[number] = PostedListener(
            number,
            acceptor,
            self._mailbox,
            self._forget,
            self._calls.follow,
            welcome_id=welcome_id,
        )
        return acceptor.address

    async def _open_channel(
        self, channel: PostedChannel, connection: Connection, hello: Message, where: Address
    ) -> None:
        """Connect and say Hello; if it fails, the channel ends and says why."""
        if connection.end is not None:
            return  # it was given up already
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await attach(connection, where, connection)
            if connection.end is None:
                connection.queue.enqueue_message(hello)
        except TofuError as error:
            channel.give_up(error)
        except TimeoutError:
            text = f"{where} did not answer within {CONNECT_TIMEOUT:g} s"
            channel.give_up(ConnectFailed(text))
        except BaseException:
            channel.give_up(ConnectFailed("connecting was cancelled"))
            raise


def _group_closed() -> TofuError:
    return ChannelClosed("the group was closed")


@contextmanager
def _handing_over(message: Message, own: Message) -> Iterator[None]:
    """Let the permit go with the message that stands for the application's, unless that fails."""
    own._permit = message._take_permit()
    try:
        yield
    except TofuError:
        message._permit = own._take_permit()
        raise


def _brings_nobody(member: Member) -> bool:
    return not isinstance(member, Listener | PostedListener)

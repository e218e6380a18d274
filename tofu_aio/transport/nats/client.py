"""The client of nats-py, with what a transport needs beside its public interface.

It uses a few private names of nats-py. ``tests/transport/nats/test_client.py`` fails if one of them
changes.
"""

# nats-py's own signatures have the type Any.
# mypy: disable-error-code="explicit-any"

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import cast

import nats.aio.client
import nats.aio.msg
import nats.errors
from nats.aio.subscription import Subscription

from ...forks import inherited
from ...protocol.address import NatsAddress, TcpAddress
from ..stand_ins import replace_connected
from .credentials import check_credentials
from .dialling import Streams, dialled
from .failures import refusal
from .limits import BROKER_TIMEOUT, CLOSE_LONGEST, CLOSE_TIMEOUT, PING_INTERVAL
from .parser import Parser

logger = logging.getLogger("tofu_aio.transport")

Message = nats.aio.msg.Msg
NatsError = nats.errors.Error


class Client(nats.aio.client.Client):
    """A connection to one broker, which is never made again when it is lost.

    Args:
        broker: its address.
        address: has the proof of identity, and says whether TLS is a must.

    Attributes:
        inbox: the subject of all inboxes of this connection, without their tokens.
        wants_tls: whether a broker without TLS is refused.
    """

    def __init__(self, broker: TcpAddress, address: NatsAddress) -> None:
        super().__init__()
        self._ps = Parser(self)
        self._broker = broker
        self._address = address
        self.inbox = ""
        self.wants_tls = address.tls
        self._messages = Inbox(_drop)
        self._early: list[Exception] = []  # errors before the hand-over
        self._failed: Callable[[Exception], object] = self._early.append
        self._over: Callable[[], object] | None = None
        self._streams: Streams | None = None
        _living.add(self)

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connect, and subscribe to the inboxes. If this fails, the connection is closed.

        Args:
            context: for TLS; None for the default one.

        Raises:
            PermissionError: the broker does not permit the inboxes.
            OSError, NatsError, ImportError: the broker cannot be used.
        """
        try:
            await self._open(context)
        except BaseException:
            if self._streams is not None:
                self.abort()  # nothing has to arrive
                await self.close()
            raise

    async def _open(self, context: ssl.SSLContext | None) -> None:
        address = self._address
        if address.credentials is not None:
            check_credentials(address.credentials)
        self.wants_tls = address.tls or context is not None
        await self.connect(
            [str(self._broker).replace("tcp", "nats", 1)],
            name="tofu_aio",
            error_cb=self._heard,
            # A broker that has come back has forgotten the channels, and what was on its way.
            allow_reconnect=False,
            connect_timeout=BROKER_TIMEOUT,
            ping_interval=PING_INTERVAL,
            tls=context,
            user=address.user,
            password=address.password,
            token=address.token,
            user_credentials=address.credentials,
        )
        self.inbox = self.new_inbox()
        await self.subscribe(f"{self.inbox}.>", future=self._messages)
        await self.settle()
        for error in self._early:
            if (refused := refusal(error)) is not None:
                raise refused.error

    def hand_over(
        self,
        arrived: Callable[[Message], object],
        failed: Callable[[Exception], object],
        over: Callable[[], object],
    ) -> None:
        """Report from now on what happens.

        Args:
            arrived: called with each message for an inbox.
            failed: called with each error that nats-py reports.
            over: called once, when the connection is lost or closed; at once, if it is already.
        """
        self._messages.take = arrived
        self._failed = failed
        if self.is_closed:
            over()
        else:
            self._over = over

    async def _heard(self, error: Exception) -> None:
        self._failed(error)

    async def _select_next_server(self) -> None:
        """Connect a socket. nats-py would try a broker that is down twice."""
        self._transport = self._streams = await dialled(self._broker)
        self._current_server = self._server_pool[0]

    def leave_to_parent(self) -> None:
        """Replace the socket in a forked child: the connection is the parent's."""
        if self._streams is not None and (sock := self._streams.socket) is not None:
            replace_connected([sock])

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The asyncio transport of the connection to the broker; None before it is made."""
        writer = getattr(self._transport, "_io_writer", None)
        return None if writer is None else cast("asyncio.WriteTransport", writer.transport)

    @property
    def buffered(self) -> int:
        """Bytes that the socket has no room for yet."""
        transport = self.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def send(self, messages: Iterable[tuple[str, str, bytes]]) -> None:
        """Publish messages at once: subject, reply and payload of each.

        ``publish`` would put them into a buffer that a task sends later, as nats-py's own pings do
        without it. Once the connection is lost, they are dropped; the loss is reported apart.
        """
        pieces: list[bytes] = []
        for subject, reply, payload in messages:
            pieces += (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload, b"\r\n")
        transport = self.transport
        if pieces and transport is not None and not transport.is_closing():  # else uvloop raises
            transport.write(b"".join(pieces))

    async def drained(self) -> None:
        """Wait until the socket has taken most of what is buffered.

        Raises:
            OSError: the connection is lost.
        """
        assert self._transport is not None
        await self._transport.drain()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Close the socket, if there is one, and drop what was not sent."""
        if self._streams is not None:
            self._streams.abort()
            self._streams.socket = None

    async def delivered(self) -> None:
        """Wait until the broker has handled all chunks; not if it takes nothing, nor for ever."""
        loop, streams = asyncio.get_running_loop(), self._streams
        assert streams is not None
        give_up = loop.time() + CLOSE_LONGEST
        left = streams.unsent()
        answered = loop.create_task(self.flush(2 * CLOSE_LONGEST), name="tofu delivered")
        try:
            while loop.time() < give_up:
                await asyncio.wait([answered], timeout=CLOSE_TIMEOUT)
                if answered.done():
                    answered.exception()  # the connection is lost, which is reported as well
                    return
                before, left = left, streams.unsent()
                if left >= before:
                    return
        finally:
            answered.cancel()

    async def settle(self) -> None:
        """Wait until the broker has handled everything that was sent, and its answers were read.

        Raises:
            NatsError: it has not, in time.
        """
        # The ping of nats-py overtakes what waits in its buffer. That is sent by the time of the
        # answer, and so before the second ping.
        await self.flush(BROKER_TIMEOUT)
        await self.flush(BROKER_TIMEOUT)

    async def enter(
        self, subject: str, queue: str, take: Callable[[Message], object], *, patient: bool
    ) -> Subscription:
        """Subscribe as a member of a queue group, and wait until the broker has handled it.

        If this fails or is cancelled, messages that come meanwhile may still be taken.

        Args:
            subject: to subscribe to.
            queue: the name of the group.
            take: called with each message.
            patient: whether to stay subscribed if the broker has not handled it in time.

        Raises:
            NatsError: the connection is lost, or the broker has not handled it in time.
        """
        found = await self.subscribe(subject, queue=queue, future=Inbox(take))
        try:
            with suppress(*[TimeoutError] if patient else []):
                await self.settle()
        except BaseException:
            if not self.is_closed:  # else it would go on to get its share of the clients
                await self._send_unsubscribe(found._id)
                self._forget_later(found)
            raise
        return found

    async def give_up(self, subscription: Subscription) -> None:
        """Unsubscribe, and take the messages that are on their way before this returns.

        If the broker does not answer in time, they are taken later.

        Raises:
            NatsError: the connection is lost.
        """
        await self._send_unsubscribe(subscription._id)
        try:
            await self.settle()
        except TimeoutError:  # the loop or the broker was busy; if it is lost, its pings tell
            self._forget_later(subscription)
        except BaseException:
            self._forget_later(subscription)
            raise
        else:
            self.forget(subscription)

    def _forget_later(self, subscription: Subscription) -> None:
        """Drop it once the broker has unsubscribed, or has lost the connection to its pings."""
        asyncio.get_running_loop().call_later(3 * PING_INTERVAL, self.forget, subscription)

    def forget(self, subscription: Subscription) -> None:
        """Drop a subscription that the broker does not have, or has no more."""
        self._remove_sub(subscription._id)

    async def _process_info(
        self, info: Mapping[str, object], initial_connection: bool = False
    ) -> None:
        """Refuse a broker without TLS, where it is a must, before the password is sent.

        One without headers is refused as well: it does not say when a message has no receiver.
        """
        if initial_connection and self.wants_tls and not info.get("tls_required"):
            raise NatsError("the broker offers no TLS")
        if initial_connection and not info.get("headers"):
            raise NatsError("the broker has no headers: remove no_header_support from its settings")
        await super()._process_info(dict(info), initial_connection)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Drop a message that nats-py cannot read, because its reading would end."""
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception as error:
            logger.debug("a message over NATS cannot be read: %r", error)

    async def _process_pong(self) -> None:
        """Handle the answer to a ping that perhaps nobody waits for any more.

        nats-py would set the result of a future that is cancelled, and its reading would end.
        """
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _read_loop(self) -> None:
        """Read, and close the connection when that ends.

        nats-py only logs an error that it does not expect, and would read no more.
        """
        await super()._read_loop()
        task = asyncio.current_task()
        if not self.is_closed and not (task and task.cancelling()):
            await self._close(self.CLOSED)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close in bounded time, and report it, whatever fails.

        nats-py waits until a frozen broker has taken the last bytes, and reports nothing if they
        cannot be sent.
        """
        over, self._over = self._over, None
        if over is not None:
            over()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await super()._close(status, do_cbs)
        except (OSError, TimeoutError):
            pass
        finally:
            self.abort()


class Inbox(asyncio.Future[Message]):
    """Takes the messages of a subscription as soon as they are parsed.

    nats-py sets the result of the future that ``subscribe`` is given when a message has arrived. So
    this needs no queue, which would have a limit beyond which nats-py drops messages, and no task.

    Attributes:
        take: called with each message.
    """

    def __init__(self, take: Callable[[Message], object]) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.take = take

    def set_result(self, message: Message, /) -> None:
        """Take a message."""
        try:
            self.take(message)
        except Exception as error:  # would end nats-py's reading
            context = {"message": "a message over NATS was not understood", "exception": error}
            self.get_loop().call_exception_handler(context)


def _drop(_: Message) -> None:
    """Take no message."""


_living = inherited(Client.leave_to_parent)

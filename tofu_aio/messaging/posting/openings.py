"""Opening the channels and listeners that are requested by posted messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import get_ident

from ...protocol.address import Address, NatsAddress, parse_address
from ...protocol.binary_header import UNASSIGNED_CHANNEL, BinaryHeader
from ...protocol.errors import (
    ConnectFailed,
    InvalidAddress,
    InvalidChannelNumber,
    TofuError,
)
from ...protocol.lifecycle import State
from ...protocol.message import Message, next_message_id, returned, snapshot
from ...protocol.op_code import OpCode
from ...protocol.status import Status
from ...protocol.text_headers import CONNECT_TO, LISTEN_ON, HeadersLike, TextHeaders
from ...transport import transports
from ...transport.tls import as_it_is
from ...worker_threads import RevocableCall
from ..accepting.admission import Admission
from ..connection.connection import Connection
from ..connection.dialling import attach
from ..delivery.mailbox import Mailbox
from ..flow_control.read_gate import ReadGate
from ..limits import CONNECT_TIMEOUT
from ..members import Members
from ..numbers import Claim
from ..threads.call_queue import CallQueue
from .posted import PostedChannel, PostedListener
from .snapshots import handing_over


class Openings:
    """The openings of a group that are in progress.

    Args:
        gate: of the engine.
        members: of the group.
        mailbox: of the group.
        calls: the calls of other threads.
        held_up: the channels that wait for permits.
        check_open: raises if the group is closed.

    Attributes:
        tasks: by channel number.
    """

    def __init__(
        self,
        gate: ReadGate,
        members: Members,
        mailbox: Mailbox[Message],
        calls: CallQueue,
        *,
        held_up: dict[Connection, None],
        check_open: Callable[[], None],
    ) -> None:
        self._gate = gate
        self._owner_loop = gate.owner_loop
        self._members = members
        self._mailbox = mailbox
        self._calls = calls
        self._held_up = held_up
        self._check_open = check_open
        self.tasks: dict[int, asyncio.Task[None]] = {}

    def open_soon(self, message: Message) -> BinaryHeader:
        """Check a request for a channel or listener, assign its numbers, and start to open it.

        May be called from any thread. In the owner loop the opening starts at once; otherwise as
        soon as that loop runs.
        """
        if message.channel_number != UNASSIGNED_CHANNEL:
            raise InvalidChannelNumber(
                f"{message.op_code.name} makes a new channel: its channel number must be 0, not "
                f"{message.channel_number}"
            )
        name = LISTEN_ON if message.op_code is OpCode.WELCOME_REQUEST else CONNECT_TO
        if name not in message.headers:
            raise InvalidAddress(
                f"{message.op_code.name} has no header {name}: add one with the address"
            )
        where = parse_address(message.headers[name])
        own = snapshot(message)
        own.message_id = own.message_id or next_message_id()
        if name == CONNECT_TO and isinstance(where, NatsAddress):
            own.headers = _without_proof(own.headers, where)
        opening: RevocableCall | None = None
        claim = Claim()
        numbers = self._members.numbers
        try:
            self._check_open()
            number = numbers.claim(self._members, claim)
            opening = RevocableCall(partial(self._open_now, number, own, where))
            with handing_over(message, own):
                if get_ident() == self._owner_loop.thread and self._owner_loop.running:
                    opening.make()
                else:
                    self._calls.submit(opening)
        except BaseException:
            if opening is None or opening.revoke():
                numbers.give_up(claim)
            raise
        finally:
            numbers.settle(claim)
        return own.header_as(number, own.message_id)

    def _open_now(self, number: int, message: Message, where: Address) -> None:
        if message.op_code is OpCode.HELLO_REQUEST:
            # The channel exists at once, so that it can be reset from now on.
            connection = Connection(self._gate, State.CONNECTING, number)
            channel = self._posted_channel(connection, hello=message)
            opening = self._open_channel(channel, connection, message, where)
        else:
            opening = self._open_listener(number, message, where)
        task = asyncio.create_task(opening, name=f"tofu open {where}")
        self.tasks[number] = task
        task.add_done_callback(partial(self._opened, number))

    def _posted_channel(
        self,
        connection: Connection,
        *,
        hello: Message | None = None,
        admission: Admission | None = None,
    ) -> PostedChannel:
        """Make a channel for a connection whose messages go to the mailbox."""
        channel = PostedChannel(
            connection,
            self._mailbox,
            self._members.forget,
            self._calls.follow,
            held_up=self._held_up,
            hello=hello,
            admission=admission,
        )
        self._members[connection.number] = channel
        return channel

    def _opened(self, number: int, task: asyncio.Task[None]) -> None:
        if self.tasks.get(number) is not task:
            return  # a reset channel went on connecting until its number was assigned again
        del self.tasks[number]
        # A channel frees its number itself, perhaps before this. If there is no channel or listener
        # yet, the task may not even have started.
        members = self._members
        if number not in members and members.numbers.get(number) is members:
            members.forget(number)

    async def _open_listener(self, number: int, welcome: Message, where: Address) -> None:
        """Listen and put the answer in the mailbox. If it fails, the answer has the reason."""
        try:
            address = await self._listen(number, welcome.message_id, where)
            headers: HeadersLike = {LISTEN_ON: address.to_header()}
            status, reason = Status.SUCCESS, b""
        except TofuError as error:
            headers, status, reason = welcome.headers, error.status, str(error).encode()
        answer = Message(OpCode.WELCOME_RESPONSE, reason, headers, welcome.message_id)
        self._mailbox.deliver([returned(answer, status, number)])

    async def _listen(self, number: int, welcome_id: int, where: Address) -> Address:
        def admit() -> Connection:
            self._check_open()
            new = self._members.new_number()
            connection = Connection(self._gate, State.HELLO_AWAITED, new)
            self._posted_channel(connection, admission=admission)
            return connection

        acceptor = await transports.listen(where)
        admission = Admission(acceptor.address, admit, as_it_is, self._gate.count_refusal)
        acceptor.start(admission)
        self._members[number] = PostedListener(
            number,
            acceptor,
            self._mailbox,
            self._members.forget,
            self._calls.follow,
            welcome_id=welcome_id,
        )
        return acceptor.address

    async def _open_channel(
        self, channel: PostedChannel, connection: Connection, hello: Message, where: Address
    ) -> None:
        """Connect and send a Hello. If it fails, the Hello comes back with the reason."""
        if connection.end is not None:
            return  # the application has reset it already
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


def _without_proof(headers: TextHeaders, where: NatsAddress) -> TextHeaders:
    """The headers of a Hello, which the peer reads, without what proves this program's identity."""
    if where.user is where.token is where.credentials is None:
        return headers
    shown = where.to_header()
    return TextHeaders((name, shown if name == CONNECT_TO else v) for name, v in headers.pairs)

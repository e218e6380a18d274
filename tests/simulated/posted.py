"""Conversations at the message level, in which all messages arrive in the group's mailbox."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import tofu_aio as tofu
from tests.simulated.talk import CONVERSATION, Conversation, body_of, ended
from tofu_aio.testing import World

_NEVER_BACK = {tofu.OpCode.WELCOME_REQUEST, tofu.OpCode.BYE_SIGNAL}

_NOBODY = "tcp|127.0.0.1|9"


class Correspondent:
    """A group that is used only at the message level, as a listener or a client of channels.

    Some post as other threads do: a message is checked at once and sent in a later turn. Some
    connect to addresses where nobody listens, and some give up while they connect.
    """

    def __init__(
        self,
        world: World,
        name: str,
        group: tofu.ChannelGroup,
        conversations: dict[str, Conversation],
    ) -> None:
        self._world = world
        # A generator of its own, so that the draws of others do not change.
        self._random = Random(f"{world.seed} {name}")
        self._group = group
        elsewhere = self._random.random() < 0.25
        self._hand_over = group._posting._post_from_elsewhere if elsewhere else group.post
        self._conversations = conversations
        self._talks: dict[int, tuple[Conversation, int]] = {}
        self._open: set[int] = set()
        self._closed: set[int] = set()
        self._sent: dict[int, int] = {}  # message id to number, for messages that may come back
        self._accepted: set[tuple[int, tofu.OpCode, int]] = (
            set()
        )  # everything that was posted and may come back
        self._tasks: list[asyncio.Task[None]] = []
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.idle = asyncio.Event()
        self.idle.set()

    def listen(self, address: str) -> None:
        self._post(
            tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers={tofu.LISTEN_ON: _header(address)})
        )

    def connect(self, address: str, conversation: Conversation) -> None:
        where = _NOBODY if self._random.random() < 0.1 else _header(address)
        headers = {tofu.CONNECT_TO: where, CONVERSATION: conversation.name}
        header = self._post(tofu.Message(tofu.OpCode.HELLO_REQUEST, headers=headers))
        self._meet(header.channel_number, conversation, 0)
        if self._random.random() < 0.15:
            self._tasks.append(asyncio.create_task(self._give_up(header.channel_number)))

    async def _give_up(self, number: int) -> None:
        await asyncio.sleep(self._random.choice([0, 0, 0.0003, 0.001, 0.01]))
        self._talks[number][0].disturbed = True
        with contextlib.suppress(tofu.InvalidChannelNumber, tofu.ChannelClosed):
            # As if by several threads, including the loop's, within one turn.
            for _ in range(self._random.choice([1, 1, 3])):
                post = self._random.choice(
                    [self._group.post, self._group._posting._post_from_elsewhere]
                )
                post(_to(number, tofu.Message(tofu.OpCode.BYE_SIGNAL)))

    def _post(self, message: tofu.Message) -> tofu.BinaryHeader:
        header = self._hand_over(message)
        if message.op_code not in _NEVER_BACK:
            self._accepted.add((header.channel_number, message.op_code, header.message_id))
        return header

    def _meet(self, number: int, conversation: Conversation, who: int) -> None:
        self._talks[number] = conversation, who
        self._open.add(number)
        self.idle.clear()

    async def run(self) -> None:
        """Handle all messages until the group is closed."""
        with contextlib.suppress(tofu.ChannelClosed):
            while True:
                message = await self._group.receive()
                number = message.channel_number
                assert number not in self._closed, f"{message} arrived after channel_closed"
                if message.origin is tofu.Origin.ENGINE:
                    self._engine_says(message)
                else:
                    self._peer_says(message)
                message.release()
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)

    def _engine_says(self, message: tofu.Message) -> None:
        number, status, op_code = message.channel_number, message.status, message.op_code
        if op_code is tofu.OpCode.WELCOME_RESPONSE:
            assert status is tofu.Status.SUCCESS, message.body
            self.address.set_result(message.headers[tofu.LISTEN_ON])
        elif status is tofu.Status.CHANNEL_CLOSED:
            # For code that looks only at the status, no other message may have it.
            own = (number, op_code, message.message_id) in self._accepted
            assert op_code is tofu.OpCode.SIGNAL, f"{message} could be mistaken for channel_closed"
            assert not own, f"{message} could be mistaken for channel_closed"
            self._world.note(number, "is closed")
            self._closed.add(number)
            self._finished(number)
        elif op_code is tofu.OpCode.SIGNAL and not message.message_id:
            pass  # the pool is empty, or a channel ends
        else:
            self._came_back(message)

    def _came_back(self, message: tofu.Message) -> None:
        """A posted message came back, which may happen once."""
        key = message.channel_number, message.op_code, message.message_id
        assert key in self._accepted, (
            f"{message} came back, but was not posted, or came back before"
        )
        self._accepted.remove(key)
        self._world.note(message.channel_number, f"{key[1].name} came back", message.status.name)
        if message.message_id in self._sent:
            conversation, who = self._talks[message.channel_number]
            conversation.deliveries[who].withdraw(self._sent.pop(message.message_id))

    def _finished(self, number: int) -> None:
        self._open.discard(number)
        if not self._open:
            self.idle.set()

    def _peer_says(self, message: tofu.Message) -> None:
        number = message.channel_number
        match message.op_code:
            case tofu.OpCode.HELLO_REQUEST:
                self._meet(number, self._conversations[message.headers[CONVERSATION]], 1)
                self._answer(message, tofu.OpCode.HELLO_RESPONSE)
                self._begin(number)
            case tofu.OpCode.HELLO_RESPONSE:
                self._begin(number)
            case tofu.OpCode.BYE_REQUEST:
                conversation, who = self._talks[number]
                conversation.deliveries[1 - who].check_complete()
                conversation.ended_well += 1
                self._answer(message, tofu.OpCode.BYE_RESPONSE)
            case tofu.OpCode.BYE_RESPONSE | tofu.OpCode.RESPONSE:
                pass
            case op_code:
                conversation, who = self._talks[number]
                conversation.deliveries[1 - who].received(int.from_bytes(message.body[:4], "big"))
                if op_code is tofu.OpCode.REQUEST:
                    self._answer(message, tofu.OpCode.RESPONSE)

    def _answer(self, message: tofu.Message, op_code: tofu.OpCode) -> None:
        answer = tofu.Message(op_code, message_id=message.message_id)
        with contextlib.suppress(tofu.TofuError):  # the channel has closed meanwhile
            self._post(_to(message.channel_number, answer))

    def _begin(self, number: int) -> None:
        self._tasks.append(asyncio.create_task(self._script(number)))

    async def _script(self, number: int) -> None:
        conversation, who = self._talks[number]
        random = conversation.random
        try:
            for _ in range(random.randint(0, 10)):
                self._say(number, conversation, who)
                if random.random() < 0.3:
                    await asyncio.sleep(random.choice([0, 0.001, 0.1]))
            bye = random.choice([tofu.OpCode.BYE_REQUEST] * 4 + [tofu.OpCode.BYE_SIGNAL])
            self._post(_to(number, tofu.Message(bye)))
        except (tofu.ChannelClosed, tofu.PeerDisconnected, tofu.NotAllowed):
            pass  # the peer has closed first
        except tofu.InvalidChannelNumber:
            pass

    def _say(self, number: int, conversation: Conversation, who: int) -> None:
        op_code = conversation.random.choice([tofu.OpCode.SIGNAL, tofu.OpCode.REQUEST])
        item = len(self._sent) + 1 + 10_000 * number
        message = _to(number, tofu.Message(op_code, body_of(item, conversation.random, 3000)))
        with conversation.deliveries[who].sending(item):
            header = self._post(message)
        self._sent[header.message_id] = item


def _to(number: int, message: tofu.Message) -> tofu.Message:
    message.channel_number = number
    return message


def _header(address: str) -> str:
    return address if "|" in address else tofu.parse_address(address).to_header()

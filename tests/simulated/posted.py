"""Conversations at the altitude of messages: everything comes through the group's mailbox."""

from __future__ import annotations

import asyncio
import contextlib

import tofu_aio as tofu
from tests.simulated.talk import CONVERSATION, Conversation, body_of, ended
from tofu_aio.testing import World

_OPENING = {tofu.OpCode.HELLO_REQUEST, tofu.OpCode.WELCOME_REQUEST}


class Correspondent:
    """A group that is used by messages alone, as a listener or as a client of several channels."""

    def __init__(
        self, world: World, group: tofu.ChannelGroup, conversations: dict[str, Conversation]
    ) -> None:
        self._world = world
        self._group = group
        self._conversations = conversations
        self._talks: dict[int, tuple[Conversation, int]] = {}
        self._open: set[int] = set()
        self._closed: set[int] = set()
        self._sent: dict[int, int] = {}  # message id to number of what may come back
        self._tasks: list[asyncio.Task[None]] = []
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.idle = asyncio.Event()
        self.idle.set()

    def listen(self, address: str) -> None:
        self._group.post(
            tofu.Message(tofu.OpCode.WELCOME_REQUEST, headers={tofu.LISTEN_ON: _header(address)})
        )

    def connect(self, address: str, conversation: Conversation) -> None:
        headers = {tofu.CONNECT_TO: _header(address), CONVERSATION: conversation.name}
        header = self._group.post(tofu.Message(tofu.OpCode.HELLO_REQUEST, headers=headers))
        self._meet(header.channel_number, conversation, 0)

    def _meet(self, number: int, conversation: Conversation, who: int) -> None:
        self._talks[number] = conversation, who
        self._open.add(number)
        self.idle.clear()

    async def run(self) -> None:
        """Handle all that comes until the group is closed."""
        with contextlib.suppress(tofu.ChannelClosed):
            while True:
                message = await self._group.receive()
                number = message.channel_number
                assert number not in self._closed, f"{message} came after channel_closed"
                if message.origin is tofu.Origin.ENGINE:
                    self._engine_says(message)
                else:
                    self._peer_says(message)
                message.release()
        for task in self._tasks:
            task.cancel()
        await ended(self._tasks)

    def _engine_says(self, message: tofu.Message) -> None:
        number, status = message.channel_number, message.status
        if message.op_code is tofu.OpCode.WELCOME_RESPONSE:
            assert status is tofu.Status.SUCCESS, message.body
            self.address.set_result(message.headers[tofu.LISTEN_ON])
        elif message.op_code is tofu.OpCode.HELLO_REQUEST:
            self._world.note(number, "Hello came back", status.name)
            if status is not tofu.Status.SUCCESS and number not in self._closed:
                self._finished(number)  # of a channel that was there its channel_closed follows
        elif status is tofu.Status.CHANNEL_CLOSED:
            self._world.note(number, "is closed")
            self._closed.add(number)
            self._finished(number)
        elif message.message_id in self._sent:
            conversation, who = self._talks[number]
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
        answer.channel_number = message.channel_number
        with contextlib.suppress(tofu.TofuError):  # it has gone meanwhile
            self._group.post(answer)

    def _begin(self, number: int) -> None:
        self._tasks.append(asyncio.create_task(self._script(number)))

    async def _script(self, number: int) -> None:
        conversation, who = self._talks[number]
        random = conversation.random
        try:
            for _ in range(random.randint(0, 10)):
                self._post(number, conversation, who)
                if random.random() < 0.3:
                    await asyncio.sleep(random.choice([0, 0.001, 0.1]))
            bye = random.choice([tofu.OpCode.BYE_REQUEST] * 4 + [tofu.OpCode.BYE_SIGNAL])
            last = tofu.Message(bye)
            last.channel_number = number
            self._group.post(last)
        except (tofu.ChannelClosed, tofu.PeerDisconnected, tofu.NotAllowed):
            pass  # the other side was faster
        except tofu.InvalidChannelNumber:
            pass

    def _post(self, number: int, conversation: Conversation, who: int) -> None:
        op_code = conversation.random.choice([tofu.OpCode.SIGNAL, tofu.OpCode.REQUEST])
        item = len(self._sent) + 1 + 10_000 * number
        message = tofu.Message(op_code, body_of(item, conversation.random, 3000))
        message.channel_number = number
        with conversation.deliveries[who].sending(item):
            header = self._group.post(message)
        self._sent[header.message_id] = item


def _header(address: str) -> str:
    return address if "|" in address else tofu.parse_address(address).to_header()

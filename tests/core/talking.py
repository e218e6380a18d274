"""Two channels, one compiled and one in Python, to which the same happens."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable, ItemsView, Iterator, Sequence
from typing import Any

from tests.core.decoding import seen
from tests.core.reference import Holder, PlainChannel, PlainConnection
from tofu_aio.messaging.channel import Channel
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.flow_control.read_gate import ReadGate
from tofu_aio.messaging.limits import Limits
from tofu_aio.protocol.binary_header import HEADER, HEADER_SIZE
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message, next_message_id
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.pool import Pool

HIGH_WATER = 40_000
BASE = 1 << 40
"""No id that is drawn is as high."""

Operation = tuple[Any, ...]
"""The name of one of a side's methods, and its arguments."""


def framed(op_code: int, message_id: int, body: bytes = b"", status: int = 0) -> bytes:
    """A frame without text headers."""
    return HEADER.pack(9, op_code, status, message_id, 0, len(body)) + body


class Headers(dict[str, str]):
    """Headers that do something while they are encoded."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(name="value")
        self._act = act

    def items(self) -> ItemsView[str, str]:
        self._act()
        return super().items()


class Transport(asyncio.Transport):
    """Keeps what it is given; in its buffer, while the peer takes nothing."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.written: list[bytes] = []
        self.buffered = 0
        self.takes = True
        self.reading = True
        self.closing = self.gone = False

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        if self.closing:
            return
        self.written.append(bytes(data))
        if not self.takes:
            before, self.buffered = self.buffered, self.buffered + len(data)
            if before <= HIGH_WATER < self.buffered:
                self.connection.pause_writing()

    def writelines(self, chunks: Any) -> None:
        for chunk in chunks:
            self.write(chunk)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def take(self, takes: bool) -> None:
        """The peer takes what is written, from now on or not."""
        self.takes = takes
        before = self.buffered
        if takes:
            self.buffered = 0
            if before > HIGH_WATER:
                self.connection.resume_writing()

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is over."""
        self.closing = True
        self.buffered = 0
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, error)


class Side(Holder):
    """One of the two, with all that belongs to it."""

    def __init__(self, *, compiled: bool, size: int = 4) -> None:
        limits = Limits(size, write_high_water=HIGH_WATER)
        self.gate = ReadGate(limits, lambda _: True, lambda _: None)
        self.gate.open()
        self.pool: Pool = self.gate.pool
        kind = Connection if compiled else PlainConnection
        self.connection = kind(self.gate, State.OPEN, 7)
        self.transport = Transport(self.connection)
        self.connection.connection_made(self.transport)
        self.forgotten: list[int] = []
        if compiled:
            self.channel = Channel(self.connection, lambda _: None, self.forgotten.append)
        else:
            self.channel = PlainChannel(self.connection, lambda _: None, self.forgotten.append)
        self.channel._dispatcher.hello = Message(OpCode.HELLO_REQUEST)
        self.connection.decoder.heartbeats = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.results: list[object] = []
        self.messages: list[Message] = []
        self.names: dict[int, str] = {}
        """The ids that were drawn, by an order that is the same on both sides."""

    # --- what happens to it -------------------------------------------------------------------

    def call(self, name: str, *arguments: Any, **options: Any) -> object:
        """Call a method of the channel, in a task."""
        method = getattr(self.channel, name)
        self.tasks.append(asyncio.create_task(self._result(method, *arguments, **options)))
        return None

    def reply(self, index: int, body: bytes, options: dict[str, Any]) -> object:
        """Answer one of the messages."""
        if self.messages:
            message = self.messages[index % len(self.messages)]
            return self.call("reply", message, body, **options)
        return None

    def send_on(self, index: int, changes: dict[str, Any]) -> object:
        """Send one of the messages on, perhaps changed."""
        if self.messages:
            message = self.messages[index % len(self.messages)]
            for name, value in changes.items():
                setattr(message, name, value)
            return self.call("send", message)
        return None

    def post(self, op_code: OpCode, message_id: int) -> object:
        """Post a message of our own."""
        return self._named(lambda: self.channel.post(Message(op_code, b"", None, message_id)))

    def cancel(self, index: int) -> object:
        """Cancel one of the tasks."""
        if self.tasks:
            return self.tasks[index % len(self.tasks)].cancel()
        return None

    def feed(self, data: bytes, buffered: bool) -> object:
        """The peer's bytes arrive."""
        if buffered:
            self.connection.get_buffer(-1)[: len(data)] = data
            return self._named(lambda: self.connection.buffer_updated(len(data)))
        return self._named(lambda: self.connection.data_received(data))

    def answer(self, index: int, proto: int, body: bytes) -> object:
        """The peer answers one of our requests."""
        pending = self.channel._dispatcher.pending
        if pending is None or not pending.requests:
            return None
        ids = list(pending.requests)
        return self.feed(framed(proto, ids[index % len(ids)], body), False)

    def takes(self, takes: bool) -> object:
        """The peer takes what is sent, or no longer does."""
        return self.transport.take(takes)

    def lose(self, why: str) -> object:
        """The connection is lost."""
        return self.transport.lose(ConnectionResetError(why) if why else None)

    # --- what can be seen of it ---------------------------------------------------------------

    async def _result(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        number = len(self.results)
        self.results.append("pending")
        before = next_message_id()
        try:
            result = await method(*arguments, **options)
        except BaseException as error:
            self.results[number] = (
                type(error),
                self._text(error),
                type(error.__cause__),
                error.__suppress_context__,
            )
            if not isinstance(error, Exception):
                raise
        else:
            self._draw(before)
            if isinstance(result, Message):
                self.messages.append(result)
                result = self._seen([result])
            self.results[number] = result
        finally:
            self._draw(before)

    def _draw(self, before: int) -> None:
        """Name the ids that were drawn since: on both sides as many, but with one between."""

    def _named(self, method: Callable[[], object]) -> object:
        return method() and None

    def _text(self, error: BaseException) -> str:
        return re.sub(r"\d+", self._name_of, str(error))

    def _name_of(self, found: re.Match[str]) -> str:
        return "a drawn id" if 1 << 20 > int(found[0]) > 100 else found[0]

    def _seen(self, messages: Sequence[Message]) -> list[object]:
        return [
            tuple(self._id(value) if place == 3 else value for place, value in enumerate(parts))
            for parts in seen(messages)
            if isinstance(parts, tuple)
        ]

    def _id(self, message_id: object) -> object:
        """An id by its order among those that were drawn, or as it is."""
        if isinstance(message_id, int) and 100 < message_id < BASE:
            return self.names.setdefault(message_id, f"id {len(self.names)}")
        return message_id

    def _frames(self) -> Iterator[object]:
        data, at = b"".join([*self.transport.written, *self.connection.queue.frames]), 0
        while at + HEADER_SIZE <= len(data):
            _, proto, status, message_id, headers, body = HEADER.unpack_from(data, at)
            stop = at + HEADER_SIZE + headers + body
            yield proto, status, self._id(message_id), headers, data[at + HEADER_SIZE : stop]
            at = stop

    def seen(self) -> dict[str, object]:
        """All that there is to see."""
        connection, channel = self.connection, self.channel
        dispatcher, decoder, queue = channel._dispatcher, connection.decoder, connection.queue
        pending, account = dispatcher.pending, decoder.account
        return {
            "frames": list(self._frames()),
            "results": self.results,
            "messages": self._seen(self.messages),
            "mailbox": (self._seen(list(channel._mailbox.items)), str(channel._mailbox.end)),
            "waits": channel._mailbox.waits,
            "state": channel.state,
            "end": (type(channel.end), str(channel.end)),
            "pending": pending
            and (
                [self._id(one) for one in pending.requests],
                [self._id(one) for one in sorted(pending.posted)],
                len(pending._joins),
                pending.late,
            ),
            "queue": (queue.sent, queue.nbytes, queue.congested, queue.paused, len(queue.carried)),
            "decoder": (decoder.needs, decoder.offset, decoder.special, decoder.pending),
            "received": (connection.received, self.gate.received_bytes),
            "account": account and (list(account.taken), account.reserved, len(account.bundled)),
            "pool": (len(self.pool.free), len(self.pool.reserves)),
            "reading": self.transport.reading,
            "forgotten": self.forgotten,
        }

    async def end(self) -> None:
        """Leave nothing behind."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.transport.lose(None)
        await turns()
        await self.channel.aclose()
        self.tasks.clear()  # their exceptions' tracebacks keep messages alive
        self.messages.clear()
        self.gate.close()


async def turns(count: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def compare(operations: Sequence[Operation], size: int) -> None:
    """Do the same to both, and find both the same after each step."""
    sides = Side(compiled=True, size=size), Side(compiled=False, size=size)
    done: list[Operation] = []
    try:
        for name, *arguments in operations:
            done.append((name, *arguments))
            if name == "turn":
                await turns(*arguments)
                results: list[object] = [None, None]
            else:
                results = [_result_of(getattr(side, name), arguments) for side in sides]
            assert results[0] == results[1], f"another result after {done}"
            compiled, plain = (side.seen() for side in sides)
            assert compiled == plain, f"another state after {done}"
    finally:
        for side in sides:
            await side.end()
    if any(len(side.pool.reserves) for side in sides):
        gc.collect()
    for side in sides:
        assert len(side.pool.free) == side.pool.size, "permits left behind"
        assert not len(side.pool.reserves), "reserves left behind"


def _result_of(method: Callable[..., object], arguments: Sequence[Any]) -> object:
    try:
        return method(*arguments)
    except Exception as error:
        return type(error), str(error)

"""The same objects with the methods in Python, which the compiled ones must be like."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from tofu_aio.messaging.channel import Channel
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.messaging.connection.send_queue import SendQueue
from tofu_aio.messaging.delivery.dispatcher import Dispatcher
from tofu_aio.messaging.delivery.mailbox import Mailbox
from tofu_aio.messaging.delivery.pending_requests import PendingRequests
from tofu_aio.messaging.flow_control.read_gate import ReadGate
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.pool import LENT_TO_STREAMS, Pool


def in_python(function: Any) -> Any:
    """The function that a compiled one stands for."""
    return getattr(function, "__wrapped__", function)


class Holder:
    """One of two sides that are compared: it holds the messages that it has received."""

    messages: list[Message]

    def release(self, index: int) -> object:
        """Release one of the messages, and keep it."""
        if self.messages:
            self.messages[index % len(self.messages)].release()
        return None

    def drop(self, index: int) -> object:
        """Forget one of the messages."""
        if self.messages:
            del self.messages[index % len(self.messages)]
        return None


class PlainAccount(Account):
    """An account whose messages are released in Python."""

    __slots__ = ()

    release = in_python(Account.release)


class PlainDecoder(Decoder):
    """A decoder in Python."""

    __slots__ = ()

    feed = in_python(Decoder.feed)
    _parse = in_python(Decoder._parse)

    def __init__(self, pool: Pool | None, state: State, channel_number: int | None = None) -> None:
        super().__init__(pool, state, channel_number)
        self.account = None if pool is None else PlainAccount(pool)


class PlainSendQueue(SendQueue):
    """A send queue in Python."""

    __slots__ = ()

    flush = in_python(SendQueue.flush)
    enqueue = in_python(SendQueue.enqueue)
    enqueue_message = in_python(SendQueue.enqueue_message)


def plain_pool(size: int, on_release: Callable[[], None], **options: Any) -> Pool:
    """A pool that counts with deques."""
    pool = Pool(size, on_release, **options)
    pool.free = deque((None,) * size)
    pool.reserves = deque()
    pool.to_lend = deque((None,) * LENT_TO_STREAMS)
    return pool


class PlainMailbox(Mailbox[Any]):
    """A mailbox in Python."""

    __slots__ = ()

    deliver = in_python(Mailbox.deliver)
    arrival = in_python(Mailbox.arrival)


class PlainPending(PendingRequests):
    """Pending requests in Python."""

    __slots__ = ()

    sort = in_python(PendingRequests.sort)


class PlainDispatcher(Dispatcher[Any]):
    """A dispatcher in Python."""

    __slots__ = ()

    deliver = in_python(Dispatcher.deliver)

    def pending_requests(self) -> PendingRequests:
        pending = super().pending_requests()
        pending.__class__ = PlainPending
        return pending


class PlainConnection(Connection):
    """A connection in Python."""

    __slots__ = ()

    get_buffer = in_python(Connection.get_buffer)
    buffer_updated = in_python(Connection.buffer_updated)
    data_received = in_python(Connection.data_received)
    _receive = in_python(Connection._receive)

    def __init__(self, gate: ReadGate, state: State, number: int) -> None:
        super().__init__(gate, state, number)
        self.decoder = PlainDecoder(gate.pool, state, number)
        self.queue = PlainSendQueue(self, self.decoder, number, gate.limits.write_high_water)


class PlainChannel(Channel):
    """A channel in Python."""

    receive = in_python(Channel.receive)
    __anext__ = in_python(Channel.__anext__)
    send = in_python(Channel.send)
    signal = in_python(Channel.signal)
    reply = in_python(Channel.reply)
    request = in_python(Channel.request)

    def __init__(self, connection: Connection, introduced: Any, forget: Any) -> None:
        super().__init__(connection, introduced, forget)
        self._dispatcher.__class__ = PlainDispatcher
        self._mailbox.__class__ = PlainMailbox

"""A channel group, waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Unpack

from ..messaging import group as messaging
from ..messaging.options import ConnectOptions, ListenOptions, ReconnectOptions
from ..protocol.address import Address
from ..protocol.binary_header import BinaryHeader
from ..protocol.message import Message
from .channel import Channel
from .closing import Closing
from .listener import Listener
from .loop_thread import LoopThread
from .turns import aborted, in_a_thread, turns


class ChannelGroup(Closing):
    """``tofu_aio.ChannelGroup`` for programs without asyncio. Made by ``engine.create_group``.

    A context manager: leaving it closes all that the group has.
    """

    def __init__(self, thread: LoopThread, group: messaging.ChannelGroup) -> None:
        self._thread = thread
        self._group = group
        self._kept: deque[Message] = deque()

    def listen(self, address: str | Address, **options: Unpack[ListenOptions]) -> Listener:
        """Listen for channels. As ``tofu_aio.ChannelGroup.listen``, with all its options.

        Those are ``ListenOptions``.
        """

        async def listen() -> Listener:
            return Listener(self._thread, await self._group.listen(address, **options))

        return self._thread.ask(listen, unheard=lambda listener: listener._listener.aclose())

    def connect(self, address: str | Address, **options: Unpack[ConnectOptions]) -> Channel:
        """Connect to a listener and say Hello.

        As ``tofu_aio.ChannelGroup.connect``, with all its options: ``tofu_aio.ConnectOptions``.
        """

        async def connect() -> Channel:
            return Channel(self._thread, await self._group.connect(address, **options))

        return self._thread.ask(connect, unheard=aborted)

    def reconnecting(
        self,
        address: str | Address,
        *others: str | Address,
        **options: Unpack[ReconnectOptions],
    ) -> Generator[Channel, None, None]:
        """Channels to a listener, one after another: ``for channel in ...``.

        As ``tofu_aio.ChannelGroup.reconnecting``, with all its options:
        ``tofu_aio.ReconnectOptions``. The last channel is closed, and its Bye waited for, when the
        loop is left.

        ``on_failure`` is called in the engine's thread, so it may not use the engine. Functions
        that make ``headers`` or ``body`` are called in a thread of their own, and may take their
        time. What any of them raises is raised here.
        """
        headers, body = options.get("headers"), options.get("body")
        if callable(headers):
            options["headers"] = in_a_thread(headers)
        if callable(body):
            options["body"] = in_a_thread(body)
        return turns(self._thread, self._group.reconnecting(address, *others, **options))

    def post(self, message: Message) -> BinaryHeader:
        """Do what the message says, and return its header. As ``tofu_aio.ChannelGroup.post``.

        It waits for nothing: what fails once the message was accepted comes through ``receive``.
        """
        return self._group.post(message)

    def update_receiver(self, message: Message | None = None) -> None:
        """Put a message, or a wake-up, at the end of the mailbox."""
        self._group.update_receiver(message)

    def receive(self, timeout: float | None = None) -> Message:
        """The next message of the group's mailbox. Timed out or interrupted, it loses none.

        Raises:
            TimeoutError: none came within so many seconds. 0 asks for what is here already.
            BusyResourceError: another thread is waiting here.
            TofuError: as ``tofu_aio.ChannelGroup.receive``.
        """
        return self._thread.take(self._group.receive, timeout, self._kept)

    def close(self) -> None:
        """Close listeners, then channels with their Byes. Bounded, repeatable."""
        self._kept.clear()
        self._thread.leave(self._group.aclose)

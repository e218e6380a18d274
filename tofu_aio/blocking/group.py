"""The blocking channel group."""

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
from .reconnection import abort_channel, in_a_thread, successive_channels


class ChannelGroup(Closing):
    """``tofu_aio.ChannelGroup`` for programs without asyncio. Created by ``engine.create_group``.

    It is a context manager. Leaving it closes the group's channels and listeners.
    """

    def __init__(self, thread: LoopThread, group: messaging.ChannelGroup) -> None:
        self._thread = thread
        self._group = group
        self._returned: deque[Message] = deque()  # received by calls that were interrupted

    def listen(
        self, address: str | Address | None = None, **options: Unpack[ListenOptions]
    ) -> Listener:
        """Listen for channels. See ``tofu_aio.ChannelGroup.listen``.

        Args:
            address: ``tcp://host:port``, ``uds:///path`` or ``fd://3``. None with ``sock=``.
            options: see ``tofu_aio.ListenOptions``.
        """

        async def listen() -> Listener:
            return Listener(self._thread, await self._group.listen(address, **options))

        return self._thread.run(listen, undo=lambda listener: listener._listener.aclose())

    def connect(self, address: str | Address, **options: Unpack[ConnectOptions]) -> Channel:
        """Connect to a listener and send a Hello. See ``tofu_aio.ChannelGroup.connect``.

        Args:
            address: ``tcp://host:port`` or ``uds:///path``.
            options: see ``tofu_aio.ConnectOptions``.
        """

        async def connect() -> Channel:
            return Channel(self._thread, await self._group.connect(address, **options))

        return self._thread.run(connect, undo=abort_channel)

    def reconnecting(
        self,
        address: str | Address,
        *others: str | Address,
        **options: Unpack[ReconnectOptions],
    ) -> Generator[Channel, None, None]:
        """Connect again whenever a channel ends: ``for channel in group.reconnecting(address)``.

        See ``tofu_aio.ChannelGroup.reconnecting``. Leaving the loop closes the last channel, with
        a Bye.

        Args:
            address: ``tcp://host:port`` or ``uds:///path``.
            others: more addresses, in order of preference.
            options: see ``tofu_aio.ReconnectOptions``. ``on_failure`` is called in the engine's
                thread, so it must not use the engine. Functions for ``headers`` and ``body`` are
                called in a thread of their own, and may block. The iteration raises what any of
                these functions raises.
        """
        headers, body = options.get("headers"), options.get("body")
        if callable(headers):
            options["headers"] = in_a_thread(headers)
        if callable(body):
            options["body"] = in_a_thread(body)
        reconnecting = self._group.reconnecting(address, *others, **options)
        return successive_channels(self._thread, reconnecting)

    def post(self, message: Message) -> BinaryHeader:
        """Carry out what the message says, and return its header.

        Never waits. Failures after the message was accepted arrive through ``receive``. See
        ``tofu_aio.ChannelGroup.post``.
        """
        return self._group.post(message)

    def update_receiver(self, message: Message | None = None) -> None:
        """Append a message, or a wake-up, to the group's mailbox."""
        self._group.update_receiver(message)

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message of the group's mailbox.

        A call that times out or is interrupted loses no message.

        Args:
            timeout: seconds; 0 only looks whether a message has arrived already.

        Raises:
            TimeoutError: no message arrived in time.
            BusyResourceError: another thread is receiving from this group.
            TofuError: see ``tofu_aio.ChannelGroup.receive``.
        """
        return self._thread.receive_item(self._group.receive, timeout, self._returned)

    def close(self) -> None:
        """Close the listeners, then the channels, each with a Bye.

        Takes a bounded time, and may be repeated.
        """
        self._returned.clear()
        self._thread.run_closing(self._group.aclose)

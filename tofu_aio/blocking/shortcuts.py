"""The simple case: one channel, with an engine of its own."""

from __future__ import annotations

from contextlib import ExitStack

from ..messaging.limits import CONNECT_TIMEOUT, POOL_MESSAGES
from ..protocol.address import Address
from ..protocol.text_headers import HeadersLike
from ..reactor import LoopFactory, new_event_loop
from .channel import Channel
from .engine import Engine


def connect(
    address: str | Address,
    *,
    headers: HeadersLike = (),
    body: bytes = b"",
    timeout: float = CONNECT_TIMEOUT,
    pool_messages: int = POOL_MESSAGES,
    loop_factory: LoopFactory = new_event_loop,
) -> Channel:
    """A channel to a listener; to close it closes its engine as well.

    Args:
        address: ``tcp://host:port`` or ``uds:///path``.
        headers: of the Hello.
        body: of the Hello.
        timeout: seconds to connect and be accepted.
        pool_messages: how many received messages may be alive at once.
        loop_factory: as ``Engine`` has it.

    Raises:
        As ``tofu_aio.ChannelGroup.connect``.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(pool_messages, loop_factory=loop_factory))
        group = engine.create_group()
        channel = group.connect(address, headers=headers, body=body, timeout=timeout)
        channel._closed = stack.pop_all().close
    return channel

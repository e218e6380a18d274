"""Whether a channel is accepted, decided by an async function that belongs to the application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from ...protocol.errors import Rejected
from ...protocol.lifecycle import State
from ..channel import Channel
from .handler_errors import awaited, refusal

Decide: TypeAlias = Callable[[Channel], Awaitable[object]]
"""Accepts by returning, or by ``channel.accept``; refuses by raising ``Rejected``, or by
``channel.reject``."""

_REASON: Final = 10_000
"""Characters of an exception's text that travel: they fit in a body, whatever they are."""


async def decided(decide: Decide, channel: Channel, timeout: float) -> bool:
    """Let ``decide`` look at a channel; return whether it is accepted.

    The text of a ``Rejected`` is told to the peer; any other exception is logged, and is not the
    peer's business. It is cancelled when the peer leaves: so no more decisions
    are under way than there are strangers.
    """
    deadline = asyncio.timeout(timeout)

    def left(_: asyncio.Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # it is over already
            deadline.reschedule(0)  # long ago

    gone = channel._connection.closing.done
    gone.add_done_callback(left)
    try:
        async with deadline:
            try:
                await awaited("decide", decide(channel))
            finally:
                gone.remove_done_callback(left)
    except Exception as error:
        if isinstance(error, TimeoutError) and deadline.expired():
            error = Rejected(f"no decision was made within {timeout:g} s")
        refuse(channel, refusal(channel, error))
    else:
        if channel.state is State.HELLO_HEARD:
            channel.accept()
    return channel.state is not State.CLOSED


def refuse(channel: Channel, error: Rejected) -> None:
    """Tell the peer why it is not accepted, if it still waits to hear that: then it is closed."""
    if channel.state is State.HELLO_HEARD:
        channel._refuse(str(error)[:_REASON], error.status)
    else:
        channel.abort()  # it was accepted before that, or its peer has left

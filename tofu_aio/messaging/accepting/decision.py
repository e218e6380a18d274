"""Deciding whether to accept a channel, with an async function of the application."""

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
"""A function that accepts a channel by returning or with ``channel.accept``, and refuses it by
raising ``Rejected`` or with ``channel.reject``."""

_MAX_REASON: Final = 10_000
"""Characters of an exception's text that are sent to the peer. They fit in a body in any case."""


async def decided(decide: Decide, channel: Channel, timeout: float) -> bool:
    """Call ``decide`` with a channel, and return whether it is accepted.

    The text of a ``Rejected`` is sent to the peer. Any other exception is only logged, because its
    text is not meant for the peer. The decision is cancelled when the peer disconnects, so there
    are never more decisions in progress than undecided channels.
    """
    deadline = asyncio.timeout(timeout)

    def disconnected(_: asyncio.Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the decision was made already
            deadline.reschedule(0)  # in the past: it expires at once

    gone = channel._connection.closing.done
    gone.add_done_callback(disconnected)
    try:
        async with deadline:
            try:
                await awaited("decide", decide(channel))
            finally:
                gone.remove_done_callback(disconnected)
    except Exception as error:
        if isinstance(error, TimeoutError) and deadline.expired():
            error = Rejected(f"no decision was made within {timeout:g} s")
        refuse(channel, refusal(channel, error))
    else:
        if channel.state is State.HELLO_HEARD:
            channel.accept()
    return channel.state is not State.CLOSED


def refuse(channel: Channel, error: Rejected) -> None:
    """Send the peer the reason why its channel is not accepted, and close the channel."""
    if channel.state is State.HELLO_HEARD:
        channel._refuse(str(error)[:_MAX_REASON], error.status)
    else:
        channel.abort()  # it was accepted before, or the peer has disconnected

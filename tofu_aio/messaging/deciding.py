"""Whether a channel is accepted, decided by an async function that belongs to the application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from ..protocol.errors import TofuError
from ..protocol.lifecycle import State
from ..protocol.status import Status
from .channel import Channel

logger = logging.getLogger(__name__)

Decide: TypeAlias = Callable[[Channel], Awaitable[object]]
"""Accepts by returning, or by ``channel.accept``; refuses by raising, or by ``channel.reject``."""

_REASON: Final = 10_000
"""Characters of an exception's text that travel: they fit in a body, whatever they are."""


async def decided(decide: Decide, channel: Channel, timeout: float) -> bool:
    """Let ``decide`` look at a channel; return whether it is accepted.

    What it raises is told to the peer, if it is a ``TofuError``; anything else is a bug, which is
    logged, and not the peer's business. It is cancelled when the peer leaves: so no more decisions
    are under way than there are strangers.
    """
    deadline = asyncio.timeout(timeout)

    def left(_: asyncio.Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # it is over already
            deadline.reschedule(0)  # long ago

    gone = channel._connection.done
    gone.add_done_callback(left)
    try:
        async with deadline:
            try:
                await decide(channel)
            finally:
                gone.remove_done_callback(left)
    except TofuError as error:
        await _refuse(channel, str(error), error.status)
    except Exception as error:
        if isinstance(error, TimeoutError) and deadline.expired():
            await _refuse(channel, f"no decision was made within {timeout:g} s", Status.NOT_ALLOWED)
        else:
            logger.exception("deciding on %r failed", channel)
            await _refuse(channel, "the decision failed", Status.PROCESSING_FAILED)
    else:
        if channel.state is State.HELLO_HEARD:
            channel.accept()
    return channel.state is not State.CLOSED


async def _refuse(channel: Channel, reason: str, status: Status) -> None:
    if channel.state is State.HELLO_HEARD:
        await channel.reject(reason[:_REASON], status)
    else:
        channel.abort()  # it was accepted before that, or its peer has left

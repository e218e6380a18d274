"""Functions that several test modules of the blocking API share."""

from __future__ import annotations

import contextlib
import time

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE
from tofu_aio import blocking

Pair = tuple[blocking.Channel, blocking.Channel]


def echo_all(listener: blocking.Listener) -> None:
    """Answer all requests on the listener's channels, one channel after the other."""
    for channel in listener:
        with channel, contextlib.suppress(tofu.PeerDisconnected):
            for message in channel:
                channel.reply(message, message.body)


def echo(channel: blocking.Channel) -> None:
    """Answer all requests on a channel."""
    for message in channel:
        channel.reply(message, message.body)


def waits_in(engine: blocking.Engine, count: int = 1) -> None:
    """Return once ``count`` calls are waiting in the engine's loop."""
    thread = engine._thread
    ends = time.monotonic() + PATIENCE
    while thread.call(lambda: len(thread._calls.running)) != count + 1:  # this call is one, too
        assert time.monotonic() < ends

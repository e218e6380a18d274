"""A thread for each channel."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from ..messaging.deciding import _REASON
from ..protocol.errors import ChannelClosed, ShutdownStarted, TofuError
from ..protocol.lifecycle import State
from ..protocol.status import Status
from .channel import Channel
from .loop_thread import _SLICE

if TYPE_CHECKING:
    from .listener import Listener

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Channel], object]

MAX_THREADS: Final = 256
"""Channels that are handled at once, unless another number is given: each takes a thread."""


def serve(listener: Listener, handler: Handler, decide: Handler | None, max_threads: int) -> None:
    """Run the handler in a thread for each channel, until the listener is closed."""
    if max_threads < 1:
        raise ValueError(f"a server with {max_threads} threads could handle no channel")
    places = threading.Semaphore(max_threads)
    threads: set[threading.Thread] = set()

    def run(channel: Channel) -> None:
        try:
            _handle(handler, decide, channel)
        finally:
            places.release()
            threads.discard(threading.current_thread())

    while True:
        while not places.acquire(timeout=None if _SLICE < 0 else _SLICE):
            pass
        try:
            channel = listener.receive_hello()
        except (ChannelClosed, ShutdownStarted):
            break
        thread = threading.Thread(target=run, args=(channel,), name=f"tofu_aio {channel!r}")
        threads.add(thread)
        thread.start()
    for thread in list(threads):
        thread.join()


def _handle(handler: Handler, decide: Handler | None, channel: Channel) -> None:
    with channel:
        try:
            if _decided(decide, channel):
                handler(channel)
        except TofuError as error:
            if channel.state is not State.CLOSED:
                logger.exception("the handler of %r failed", channel)
                channel.abort()
            else:
                logger.debug("%r: %s", channel, error)
        except Exception:
            # One bad conversation must not end the others.
            logger.exception("the handler of %r failed", channel)
            channel.abort()


def _decided(decide: Handler | None, channel: Channel) -> bool:
    try:
        if decide is not None:
            decide(channel)
    except TofuError as error:
        _refuse(channel, str(error), error.status)
    except Exception:
        logger.exception("deciding on %r failed", channel)
        _refuse(channel, "the decision failed", Status.PROCESSING_FAILED)
    else:
        if channel.state is State.HELLO_HEARD:
            channel.accept()
    return channel.state is not State.CLOSED


def _refuse(channel: Channel, reason: str, status: Status) -> None:
    if channel.state is State.HELLO_HEARD:
        channel.reject(reason[:_REASON], status)
    else:
        channel.abort()  # it was accepted before that, or its peer has left

"""Engines, groups, channels and listeners for programs without asyncio.

The same engine, on an event loop in a thread of its own; each call waits for what it asks of it.
Any number of threads may use it at once. Names are those of ``tofu_aio``, without ``async`` and
``await``, with ``close`` for ``aclose`` and ``timeout`` for whatever waits::

    from tofu_aio import blocking

    with blocking.connect("tcp://127.0.0.1:7000") as channel:
        print(channel.request(b"hello", timeout=5).body)
"""

from ..messaging.options import ListenOptions
from .channel import Channel
from .engine import Engine
from .exchange import Exchange
from .group import ChannelGroup
from .listener import Listener
from .shortcuts import Server, connect, reconnecting, serve

__all__ = [
    "Channel",
    "ChannelGroup",
    "Engine",
    "Exchange",
    "ListenOptions",
    "Listener",
    "Server",
    "connect",
    "reconnecting",
    "serve",
]

"""Engines, groups, channels and listeners for programs without asyncio.

This is the same engine, on an event loop in a thread of its own; each call waits for its result.
Any number of threads may use it at the same time. The names are those of ``tofu_aio``, without
``async`` and ``await``. ``close`` replaces ``aclose``, and calls that wait take a ``timeout``::

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

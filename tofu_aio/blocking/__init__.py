"""Engines, groups, channels and listeners for programs without asyncio.

This is the same engine, on an event loop in a thread of its own; each call waits for its result.
Any number of threads may use it at the same time. The names are those of ``tofu_aio``, without
``async`` and ``await``. ``close`` replaces ``aclose``, and calls that wait take a ``timeout``::

    from tofu_aio import blocking

    with blocking.connect("tcp://127.0.0.1:7000") as channel:
        print(channel.request(b"hello", timeout=5).body)
"""

from typing import TYPE_CHECKING

from ..messaging.options import ListenOptions
from ..service.importing import attribute
from .channel import Channel
from .engine import Engine
from .exchange import Exchange
from .group import ChannelGroup
from .listener import Listener
from .shortcuts import Server, connect, reconnecting, serve

if TYPE_CHECKING:
    from .client import Client as Client

__all__ = [
    "Channel",
    "ChannelGroup",
    "Client",
    "Engine",
    "Exchange",
    "ListenOptions",
    "Listener",
    "Server",
    "connect",
    "reconnecting",
    "serve",
]


def __getattr__(name: str) -> object:
    """Import what needs a package that may not be there."""
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return attribute(f"{__name__}.client", name, f"{__name__}.{name}")

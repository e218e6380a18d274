"""Peer-to-peer messages for asyncio, over TCP and Unix sockets, in bounded memory."""

__version__ = "0.1.0"

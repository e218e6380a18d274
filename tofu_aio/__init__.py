"""Peer-to-peer messages for asyncio, over TCP and Unix sockets, in bounded memory.

The package has two halves: messaging (``Engine``, ``ChannelGroup``, ``Channel``, ``Listener``) runs
on any asyncio event loop, and the reactor (``Loop``, ``run``) is an event loop for any asyncio
program. Neither knows the other: they meet only at the interface of asyncio.
"""

from typing import TYPE_CHECKING

from . import reactor
from .messaging.accepting.decision import Decide
from .messaging.backoff import Backoff
from .messaging.channel import Channel
from .messaging.connecting import Connecting
from .messaging.engine import Engine
from .messaging.exchange import Exchange
from .messaging.group import ChannelGroup
from .messaging.limits import EngineOptions
from .messaging.listener import Listener
from .messaging.options import (
    ClientOptions,
    ConnectOptions,
    ListenOptions,
    ReconnectingClientOptions,
    ReconnectOptions,
    ServerOptions,
)
from .messaging.reconnecting import Reconnecting
from .messaging.shortcuts import connect, reconnecting, serve
from .messaging.statistics import ChannelStatistics, EngineStatistics
from .messaging.triggers import Triggers
from .protocol.address import Address, TcpAddress, UdsAddress, parse_address
from .protocol.binary_header import BinaryHeader
from .protocol.errors import (
    AcceptFailed,
    AllocationFailed,
    ChannelClosed,
    ChannelEnded,
    CommunicationFailed,
    ConnectFailed,
    ExchangeFailed,
    InvalidAddress,
    InvalidBodyLen,
    InvalidChannelGroup,
    InvalidChannelNumber,
    InvalidHeadersLen,
    InvalidMessage,
    InvalidMessageId,
    InvalidMoreUsage,
    InvalidOpCode,
    ListenFailed,
    NotAllowed,
    NotificationDisabled,
    NotificationFailed,
    NotImplementedYet,
    NullMessage,
    PeerDisconnected,
    PoolEmpty,
    ProcessingFailed,
    ProtocolViolation,
    ReceiverUpdate,
    RecvFailed,
    Rejected,
    SendFailed,
    SetsockoptFailed,
    ShutdownStarted,
    TofuError,
    UdsPathNotFound,
    UnknownError,
    WrongAddress,
)
from .protocol.lifecycle import ListenerState, State
from .protocol.message import Message
from .protocol.op_code import MessageType, OpCode, Origin, Role
from .protocol.pool import Allocation
from .protocol.status import Status
from .protocol.text_headers import CONNECT_TO, HEARTBEAT, LISTEN_ON, TextHeaders
from .reactor import Loop, loop_factory, new_event_loop, run
from .transport.peer import Certificate, Credentials, Peer

if TYPE_CHECKING:
    from .reactor import EventLoopPolicy as EventLoopPolicy
    from .reactor import install as install

__version__ = "0.1.0"

__all__ = [
    "CONNECT_TO",
    "HEARTBEAT",
    "LISTEN_ON",
    "AcceptFailed",
    "Address",
    "Allocation",
    "AllocationFailed",
    "Backoff",
    "BinaryHeader",
    "Certificate",
    "Channel",
    "ChannelClosed",
    "ChannelEnded",
    "ChannelGroup",
    "ChannelStatistics",
    "ClientOptions",
    "CommunicationFailed",
    "ConnectFailed",
    "ConnectOptions",
    "Connecting",
    "Credentials",
    "Decide",
    "Engine",
    "EngineOptions",
    "EngineStatistics",
    "Exchange",
    "ExchangeFailed",
    "InvalidAddress",
    "InvalidBodyLen",
    "InvalidChannelGroup",
    "InvalidChannelNumber",
    "InvalidHeadersLen",
    "InvalidMessage",
    "InvalidMessageId",
    "InvalidMoreUsage",
    "InvalidOpCode",
    "ListenFailed",
    "ListenOptions",
    "Listener",
    "ListenerState",
    "Loop",
    "Message",
    "MessageType",
    "NotAllowed",
    "NotImplementedYet",
    "NotificationDisabled",
    "NotificationFailed",
    "NullMessage",
    "OpCode",
    "Origin",
    "Peer",
    "PeerDisconnected",
    "PoolEmpty",
    "ProcessingFailed",
    "ProtocolViolation",
    "ReceiverUpdate",
    "ReconnectOptions",
    "Reconnecting",
    "ReconnectingClientOptions",
    "RecvFailed",
    "Rejected",
    "Role",
    "SendFailed",
    "ServerOptions",
    "SetsockoptFailed",
    "ShutdownStarted",
    "State",
    "Status",
    "TcpAddress",
    "TextHeaders",
    "TofuError",
    "Triggers",
    "UdsAddress",
    "UdsPathNotFound",
    "UnknownError",
    "WrongAddress",
    "connect",
    "loop_factory",
    "new_event_loop",
    "parse_address",
    "reconnecting",
    "run",
    "serve",
]


def __getattr__(name: str) -> object:
    """Import ``EventLoopPolicy`` and ``install`` when needed: asyncio may have no policies."""
    if name in {"EventLoopPolicy", "install"}:
        value: object = getattr(reactor, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

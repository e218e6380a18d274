"""Peer-to-peer messages for asyncio, over TCP, Unix sockets and NATS, in bounded memory.

The package has two halves: messaging (``Engine``, ``ChannelGroup``, ``Channel``, ``Listener``) runs
on any asyncio event loop, and the reactor (``Loop``, ``run``) is an event loop for any asyncio
program. Neither knows the other: they meet only at the interface of asyncio.
"""

from typing import TYPE_CHECKING

from .core import COMPILED as _COMPILED
from .messaging import handing_over as _handing_over  # noqa: F401 - it acts when it is imported
from .messaging.accepting.decision import Decide
from .messaging.backoff import Backoff
from .messaging.channel import Channel
from .messaging.engine import Engine
from .messaging.exchange import Exchange
from .messaging.group import ChannelGroup
from .messaging.limits import EngineOptions
from .messaging.listener import Listener
from .messaging.opening import Connecting, Listening
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
from .protocol.address import Address, FdAddress, NatsAddress, TcpAddress, UdsAddress, parse_address
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
from .service.errors import ServiceError
from .service.importing import attribute as _attribute
from .transport.peer import Certificate, Credentials, Peer

if TYPE_CHECKING:
    from .reactor import EventLoopPolicy as EventLoopPolicy
    from .reactor import install as install
    from .service.binding import idempotent as idempotent
    from .service.call import Call as Call
    from .service.call import Middleware as Middleware
    from .service.call import Next as Next
    from .service.client import Client as Client
    from .service.codec import JSON as JSON
    from .service.codec import MSGPACK as MSGPACK
    from .service.codec import Codec as Codec
    from .service.cursor import Event as Event
    from .service.metrics import PrometheusCollector as PrometheusCollector
    from .service.outgoing import OutgoingCall as OutgoingCall
    from .service.service import Service as Service
    from .service.statistics import ServiceStatistics as ServiceStatistics
    from .service.topic import Topic as Topic
    from .service.topic import TopicFull as TopicFull
    from .service.topic import TopicStatistics as TopicStatistics
    from .service.tracing import Tracing as Tracing
__version__ = "0.1.0"
__compiled__: bool = _COMPILED
"""Whether the compiled core runs; if not, plain Python does."""

__all__ = [
    "CONNECT_TO",
    "HEARTBEAT",
    "JSON",
    "LISTEN_ON",
    "MSGPACK",
    "AcceptFailed",
    "Address",
    "Allocation",
    "AllocationFailed",
    "Backoff",
    "BinaryHeader",
    "Call",
    "Certificate",
    "Channel",
    "ChannelClosed",
    "ChannelEnded",
    "ChannelGroup",
    "ChannelStatistics",
    "Client",
    "ClientOptions",
    "Codec",
    "CommunicationFailed",
    "ConnectFailed",
    "ConnectOptions",
    "Connecting",
    "Credentials",
    "Decide",
    "Engine",
    "EngineOptions",
    "EngineStatistics",
    "Event",
    "Exchange",
    "ExchangeFailed",
    "FdAddress",
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
    "Listening",
    "Loop",
    "Message",
    "MessageType",
    "Middleware",
    "NatsAddress",
    "Next",
    "NotAllowed",
    "NotImplementedYet",
    "NotificationDisabled",
    "NotificationFailed",
    "NullMessage",
    "OpCode",
    "Origin",
    "OutgoingCall",
    "Peer",
    "PeerDisconnected",
    "PoolEmpty",
    "ProcessingFailed",
    "PrometheusCollector",
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
    "Service",
    "ServiceError",
    "ServiceStatistics",
    "SetsockoptFailed",
    "ShutdownStarted",
    "State",
    "Status",
    "TcpAddress",
    "TextHeaders",
    "TofuError",
    "Topic",
    "TopicFull",
    "TopicStatistics",
    "Tracing",
    "Triggers",
    "UdsAddress",
    "UdsPathNotFound",
    "UnknownError",
    "WrongAddress",
    "connect",
    "idempotent",
    "loop_factory",
    "new_event_loop",
    "parse_address",
    "reconnecting",
    "run",
    "serve",
]


# Imported when needed: asyncio may have no policies, and the package of an extra may be missing.
_LATER = {
    "EventLoopPolicy": ".reactor",
    "install": ".reactor",
    "Call": ".service.call",
    "Client": ".service.client",
    "Codec": ".service.codec",
    "JSON": ".service.codec",
    "MSGPACK": ".service.codec",
    "OutgoingCall": ".service.outgoing",
    "PrometheusCollector": ".service.metrics",
    "Middleware": ".service.call",
    "Next": ".service.call",
    "Service": ".service.service",
    "ServiceStatistics": ".service.statistics",
    "Tracing": ".service.tracing",
    "Event": ".service.cursor",
    "idempotent": ".service.binding",
    "Topic": ".service.topic",
    "TopicFull": ".service.topic",
    "TopicStatistics": ".service.topic",
}


def __getattr__(name: str) -> object:
    """Import what needs a package that may not be there."""
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _attribute(__name__ + module, name, f"{__name__}.{name}")

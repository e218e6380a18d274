"""The options of connecting, of connecting again, and of listening, each described once.

What an engine may hold, its ``EngineOptions``, stands beside the limits themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from ssl import SSLContext
from typing import Final, TypeAlias, TypedDict, TypeVar, cast

from ..checks import checked_names
from ..protocol.errors import TofuError
from ..protocol.text_headers import HeadersLike
from .backoff import Backoff
from .connection.heartbeat import HeartbeatOption
from .limits import EngineOptions

T = TypeVar("T")

HeadersMaker: TypeAlias = Callable[[], HeadersLike | Awaitable[HeadersLike]]
BodyMaker: TypeAlias = Callable[[], bytes | Awaitable[bytes]]


class AttemptOptions(TypedDict, total=False):
    """What an attempt to connect takes beside the Hello's contents."""

    ssl: SSLContext | None
    server_hostname: str | None
    keepalive: float | None
    timeout: float
    heartbeat: HeartbeatOption


class ConnectOptions(AttemptOptions, total=False):
    """The options of ``ChannelGroup.connect``, which says more of each.

    Attributes:
        headers: of the Hello; none by default.
        body: of the Hello; empty by default.
        ssl: speak TLS (TCP only), with this context, which must verify, or have been told not to.
        server_hostname: whom the listener's certificate must name; by default the host.
        keepalive: seconds of silence after which the kernel asks whether the peer is there; by
            default it never does.
        timeout: seconds to connect and be accepted; 10 by default.
        heartbeat: seconds between signs of life, None for none; by default 20 over TCP, and none
            over Unix sockets.
    """

    headers: HeadersLike
    body: bytes


class ReconnectOptions(AttemptOptions, total=False):
    """The options of ``reconnecting``: its own, and those of ``ConnectOptions`` for each attempt.

    Attributes:
        headers: of the Hello, or a function without arguments that returns them.
        body: of the Hello, or a function without arguments that returns it. A function, plain or
            ``async``, is called for each attempt, so that it may bring a fresh token or tell the
            last message seen. ``timeout`` does not count its time, and what it raises ends the
            loop.
        backoff: bounds for the waits between attempts; 0.1 to 30 seconds by default.
        on_failure: called with the reason of each failed attempt. What it raises ends the loop.
    """

    headers: HeadersLike | HeadersMaker
    body: bytes | BodyMaker
    backoff: Backoff | None
    on_failure: Callable[[TofuError], object] | None


class ListenOptions(TypedDict, total=False):
    """The options of ``ChannelGroup.listen``, which says more of each.

    Attributes:
        ssl: speak TLS (TCP only), with this context.
        keepalive: seconds of silence after which the kernel asks whether a peer is there; by
            default it never does.
        reuse_port: let several processes listen on this TCP port; by default only one may.
        mode: the permissions of a Unix socket's file, 0o600 say; by default the umask's.
        hello_timeout: seconds that a connection may take to introduce itself; 10 by default.
        heartbeat: seconds between signs of life, None for none; by default 20 over TCP, and none
            over Unix sockets.
        max_channels: how many may be open at once; any number by default.
        max_connections_per_address: how many connections one address may have at once (TCP only);
            any number by default.
        idle_timeout: seconds without a message after which a channel is closed; by default it never
            is.
    """

    ssl: SSLContext | None
    keepalive: float | None
    reuse_port: bool
    mode: int | None
    hello_timeout: float
    heartbeat: HeartbeatOption
    max_channels: int | None
    max_connections_per_address: int | None
    idle_timeout: float | None


class ClientOptions(ConnectOptions, EngineOptions, total=False):
    """The options of ``connect``: those of ``ConnectOptions`` and of ``EngineOptions``."""


class ReconnectingClientOptions(ReconnectOptions, EngineOptions, total=False):
    """The options of ``reconnecting`` with an engine of its own.

    Those of ``ReconnectOptions`` and of ``EngineOptions``.
    """


class ServerOptions(ListenOptions, EngineOptions, total=False):
    """The options of ``serve``: those of ``ListenOptions`` and of ``EngineOptions``."""


_LIMITS: Final = EngineOptions.__optional_keys__


def split(call: str, options: Mapping[str, object], rest: type[T], /) -> tuple[EngineOptions, T]:
    """Those of the options of a call that the engine takes, and the rest.

    Raises:
        TypeError: nobody knows one of them.
    """
    checked_names(call, options, _LIMITS | rest.__annotations__.keys())
    limits = {name: value for name, value in options.items() if name in _LIMITS}
    others = {name: value for name, value in options.items() if name not in _LIMITS}
    return cast("EngineOptions", limits), cast("T", others)

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
    """The options of ``ChannelGroup.connect``.

    Attributes:
        headers: of the Hello, after the engine's own, whose names begin with ``~``.
        body: of the Hello.
        ssl: speak TLS (TCP only), with this context. One that never verified anything, as
            ``ssl.SSLContext()`` is made, is refused; one for clients that was told not to, by
            ``verify_mode = ssl.CERT_NONE``, is taken.
        server_hostname: whom the listener's certificate must name; by default the host.
        keepalive: seconds of silence after which the kernel asks whether the peer is still
            there, 0.01 to 32,767; a peer that is not is lost within twice that time. None never
            asks. Not needed over Unix sockets, whose kernel knows.
        timeout: seconds to connect and be accepted; 10 by default.
        heartbeat: seconds, 0.01 to 86,400. Either end sends a heartbeat when it has sent
            nothing else for so long, and a peer that is silent for three times as long is
            lost. It is enough that one end asks; if both do, the shorter interval counts, but a
            client gets none below a second unless the listener's own is as short. A peer that
            does not know heartbeats, the Zig library say, is never sent any. "auto" is
            20 over TCP, and none over Unix sockets, whose kernel tells when the peer's process
            has ended. None asks for none.
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
    """The options of ``ChannelGroup.listen``.

    Attributes:
        ssl: speak TLS (TCP only), with this context; one that demands certificates shows
            them in ``channel.peer``.
        keepalive: see ``ConnectOptions``; for the channels that it brings.
        reuse_port: let several processes listen on this TCP port, each with this option. The
            kernel deals the connections out among them; Windows cannot.
        mode: the permissions of a Unix socket's file, set before anybody can connect: 0o600
            for the owner alone, 0o660 for a group too. None leaves them to the umask. Who may
            write to the file may connect. An abstract name has no file: it is open to every
            user of the machine.
        hello_timeout: seconds that a connection may take to introduce itself, TLS included; 10 by
            default.
        heartbeat: seconds; see ``ConnectOptions``. Clients may ask for a shorter interval, of a
            second or more.
        max_channels: how many channels of this listener may be open at once, those that are
            about to introduce themselves among them. Beyond it connections wait, in order of
            arrival, until one closes; beyond 1024 that wait they are refused. While one waits,
            a channel whose peer takes no part in heartbeats gives way to it, with a Bye, once
            that peer has neither sent nor taken anything for three intervals, unless something
            that it sent is unread or kept here. None for any number.
        max_connections_per_address: how many connections one address may have at once (TCP
            only), from the moment of acceptance until the socket is closed; more are refused.
            Of IPv6 the first 64 bits count, for a host has all addresses of such a network.
            None for any number.
        idle_timeout: seconds, 0.01 or more. A channel over which no message has come or gone
            for so long is closed with a Bye, within a quarter more; heartbeats are no messages.
            Nor is it closed while the peer goes on taking what was queued for it.
            What is used there raises ``ChannelClosed``, and the peer gets the Bye. Choose more
            than a handler takes for a request. None never closes one.
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

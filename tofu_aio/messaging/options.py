"""The options of ``connect``, ``reconnecting`` and ``listen``, each described once.

``EngineOptions`` is in ``limits.py``, beside the limits themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import wraps
from inspect import isawaitable
from socket import socket
from ssl import SSLContext
from typing import Final, ParamSpec, TypeAlias, TypedDict, TypeVar, cast

from ..checks import checked_names
from ..protocol.errors import TofuError
from ..protocol.text_headers import HeadersLike
from .backoff import Backoff
from .connection.heartbeat import HeartbeatOption
from .limits import EngineOptions

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

HeadersMaker: TypeAlias = Callable[[], HeadersLike | Awaitable[HeadersLike]]
BodyMaker: TypeAlias = Callable[[], bytes | Awaitable[bytes]]


class AttemptOptions(TypedDict, total=False):
    """The options of one attempt to connect, apart from the contents of the Hello."""

    ssl: SSLContext | None
    server_hostname: str | None
    keepalive: float | None
    timeout: float
    heartbeat: HeartbeatOption


class ConnectOptions(AttemptOptions, total=False):
    """The options of ``ChannelGroup.connect``.

    Attributes:
        headers: headers of the Hello, as pairs or a mapping. They follow the engine's own
            headers, whose names begin with ``~``. No others by default.
        body: the body of the Hello, up to 65,535 bytes. Empty by default.
        ssl: the ``ssl.SSLContext`` for TLS, over TCP to the peer and over NATS to the broker. By
            default the channel is not encrypted, unless the broker demands it. A context that is
            not for clients and verifies nothing, as ``ssl.SSLContext()`` makes it, is refused. To
            connect without verification, set ``check_hostname = False`` and then ``verify_mode =
            ssl.CERT_NONE`` on a context for clients.
        server_hostname: the name that the listener's certificate must have. By default the host
            of the address. Without ``ssl`` it is an error.
        keepalive: seconds without traffic, 0.01 to 32,767, after which the kernel probes whether
            the peer is still there. If it does not answer, the peer counts as lost within twice
            that time, and four seconds more at most, because the kernel counts whole seconds. It
            does not probe while something that was sent is not acknowledged: then a loss may go
            unnoticed for a quarter of an hour, unless there are heartbeats. By default, and with
            None, the kernel never probes. Unix sockets and NATS do not need it: the kernel, or the
            broker, knows when the peer is gone.
        timeout: seconds, 0 or more, for resolving the host, connecting, TLS and the answer to the
            Hello together. 10 by default. After that ``connect`` raises ``ConnectFailed``.
        heartbeat: the interval in seconds, 0.01 to 86,400. Each end sends a heartbeat when it has
            sent nothing else for an interval, and a peer that is silent for three intervals is
            lost. It is enough if one end asks for heartbeats. If both do, the shorter interval
            applies, but a client gets none below a second unless the listener's own interval is as
            short. A peer that does not know heartbeats, like the Zig library, is sent none, and its
            silence is no loss. "auto", the default, means 20 over TCP and NATS, and none over Unix
            sockets, where the kernel reports the end of the peer's process. None asks for none.
    """

    headers: HeadersLike
    body: bytes


class ReconnectOptions(AttemptOptions, total=False):
    """The options of ``reconnecting``: its own, and those of ``ConnectOptions`` for each attempt.

    Attributes:
        headers: headers of the Hello, or a function without arguments that returns them, as for
            ``body``. No headers by default.
        body: the body of the Hello, or a function without arguments that returns it. Empty by
            default. A function, plain or ``async``, is called for each attempt, so it can return
            a fresh token or the id of the last message seen. Its time does not count towards
            ``timeout``. An exception that it raises ends the loop.
        backoff: the bounds of the random waits between attempts. By default, and with None,
            ``Backoff()``: the bound grows from 0.1 to 30 seconds and doubles with each failure.
        on_failure: a function that is called with the error of each failed attempt. None by
            default. An exception that it raises ends the loop.
    """

    headers: HeadersLike | HeadersMaker
    body: bytes | BodyMaker
    backoff: Backoff | None
    on_failure: Callable[[TofuError], object] | None


class ListenOptions(TypedDict, total=False):
    """The options of ``ChannelGroup.listen``.

    Attributes:
        ssl: the ``ssl.SSLContext`` for TLS, over TCP with the server's certificate. Over NATS both
            sides are clients of the broker, and take a context for clients. By default channels are
            not encrypted, unless the broker demands it. If it demands client certificates,
            ``channel.peer.certificate`` is the client's.
        keepalive: seconds, 0.01 to 32,767, for all channels of the listener; see
            ``ConnectOptions``. By default, and with None, the kernel never probes.
        reuse_port: whether several processes may listen on this TCP port. Each must set it. The
            kernel distributes the connections among them. False by default, so a second process
            cannot listen. Not available on Windows.
        sock: a bound stream socket to listen on, for TCP or Unix, in place of an address. It is
            closed with the listener, but a Unix socket's file is not removed. Copies of it in other
            processes go on listening. By default, and with None, the socket is made here.
        mode: the permissions of a Unix socket's file, set before anyone can connect: 0o600 for
            the owner alone, 0o660 for a group too. Write permission is needed to connect. By
            default, and with None, the umask decides. An abstract name has no file, and is open
            to every user of the machine.
        hello_timeout: seconds, 0 or more, that a new connection may take to send its Hello, TLS
            included. 10 by default. After that it is closed.
        heartbeat: the interval in seconds, 0.01 to 86,400, "auto" or None; see
            ``ConnectOptions``. "auto" by default. A client may ask for a shorter interval, but
            not below a second.
        max_channels: how many channels of this listener may be open at once, 1 or more, including
            those whose Hello is still expected. Further connections wait, in order of arrival,
            until a channel closes; when 1,024 wait, more are refused. While one waits, a channel
            may be closed in its favour, with a Bye: one whose peer takes no part in heartbeats and
            has neither sent nor taken anything for three intervals, unless a message from that peer
            is unread or kept here. Over NATS nobody waits: clients go to other listeners. By
            default, and with None, there is no limit.
        max_connections_per_address: how many connections one address may have at once, 1 or more,
            over TCP only, from acceptance until the socket is closed. Further ones are refused.
            For IPv6 the first 64 bits of the address count, because a host has all addresses of
            such a network. By default, and with None, there is no limit.
        idle_timeout: seconds, 0.01 or more, without a message in either direction, after which a
            channel is closed with a Bye; it may take a quarter longer. Heartbeats do not count as
            messages. A channel stays open while the peer goes on taking bytes that are queued for
            it. Once closed, its methods here raise ``ChannelClosed``, and the peer gets the Bye.
            Choose more than a handler takes for a request. By default, and with None, idle
            channels stay open.
    """

    ssl: SSLContext | None
    keepalive: float | None
    reuse_port: bool
    sock: socket | None
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


def names_checked(options: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function refuse unknown options when it is called, and not when it is awaited.

    Args:
        options: the TypedDict of its options. Its other parameter is ``address``.

    Raises:
        TypeError: from the function, for an option that it does not know.
    """
    known = options.__annotations__.keys()

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            given = [name for name in kwargs if name != "address"]
            checked_names(function.__name__, given, known)
            return function(*args, **kwargs)

        return checked

    return decorate


async def evaluated(option: T | Callable[[], T | Awaitable[T]]) -> T:
    """The value of an option, or what the function given for it returns."""
    if not callable(option):
        return option
    value = option()
    return await value if isawaitable(value) else value


def split(
    call: str, options: Mapping[str, object], rest: type[T], own: Collection[str] = (), /
) -> tuple[EngineOptions, T]:
    """Split the options of a call into those of the engine and the rest.

    Args:
        call: its name.
        options: that were given.
        rest: the TypedDict of the rest.
        own: the parameters that the call has besides, for the text of the error.

    Raises:
        TypeError: an option is unknown.
    """
    known = _LIMITS | rest.__annotations__.keys()
    if not options.keys() <= known:
        checked_names(call, options, {*known, *own})
    limits = {name: value for name, value in options.items() if name in _LIMITS}
    others = {name: value for name, value in options.items() if name not in _LIMITS}
    return cast("EngineOptions", limits), cast("T", others)

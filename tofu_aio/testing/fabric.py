"""All listeners and connections of a simulated network, and how connections are established."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Final

from .ends import Backlog, End, Name
from .kernel import Kernel
from .medium import Medium
from .network import Network, magnitude
from .pipe import Pipe
from .trace import Trace

_SYN_RETRY: Final = 1.0
"""Seconds after which connecting is tried again if the backlog was full (tcp(7))."""

_FIRST_PORT: Final = 32_768
_LAST_PORT: Final = 60_999
"""Linux chooses ports from the same range (ip(7), ip_local_port_range)."""

ANY: Final = ("0.0.0.0", "::", "")  # noqa: S104 - the hosts that mean all of them


class Link:
    """One connection of the simulated network, which a test can disturb.

    Attributes:
        client: the name of the end that connected.
        server: the name of the end that it connected to.
    """

    def __init__(self, client: End, server: End) -> None:
        self._ends = client, server
        self.client = client.own
        self.server = server.own

    def reset(self) -> None:
        """Break the connection. Both ends lose it, after what is in flight has arrived."""
        self._ends[0].break_connection()

    def stall(self, seconds: float) -> None:
        """Delay what is sent from now on, in both directions."""
        for end in self._ends:
            end.outgoing.stall(seconds)

    @property
    def under_way(self) -> int:
        """Bytes that were written and have not arrived, in both directions."""
        return sum(end.outgoing.in_flight for end in self._ends)

    @property
    def over(self) -> bool:
        """Whether both ends have closed or lost the connection."""
        return all(end.closed or end.lost for end in self._ends)

    def check(self) -> None:
        """Check that the network's buffers are within their limits.

        Raises:
            AssertionError: a buffer is not.
        """
        for end in self._ends:
            end.outgoing.check()

    def __repr__(self) -> str:
        return f"<Link {self.client} {self.server}>"


class Fabric:
    """All listeners and connections of a simulated network.

    Attributes:
        listeners: the backlogs, by name.
        links: the connections that are not over, the oldest first.
    """

    def __init__(self, kernel: Kernel, network: Network, trace: Trace) -> None:
        self.kernel = kernel
        self.network = network
        self.trace = trace
        self._medium = Medium(kernel, network, trace)
        self.listeners: dict[Name, Backlog] = {}
        self.links: dict[Link, None] = {}
        self._count = 0
        self._port = _FIRST_PORT

    @property
    def checksum(self) -> int:
        """A checksum of all bytes that have travelled, in the order in which they left."""
        return self._medium.checksum

    def unused_port(self) -> int:
        """Choose a port that no listener has, and that was not chosen lately."""
        taken = {name[1] for name in self.listeners if not isinstance(name, str)}
        while True:
            self._port = self._port + 1 if self._port < _LAST_PORT else _FIRST_PORT
            if self._port not in taken:
                return self._port

    def create_end(self, own: Name, peer: Name) -> End:
        """Create an end that is not connected yet."""
        return End(self._medium, own, peer)

    def listen(self, name: Name, size: int) -> Backlog:
        """Create a backlog, so that others can connect to the name.

        Raises:
            OSError: there is a listener with this name.
        """
        key = _key(name)
        if key in self.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        forget = partial(self.listeners.pop, key, None)
        backlog = Backlog(self._medium, name, size, forget)
        self.listeners[key] = backlog
        return backlog

    def connect(self, client: End) -> None:
        """Begin to connect over the network. The end learns the result some time later."""
        if not isinstance(client.peer, str) and client.peer[0] in self.network.silent:
            self.trace.add(_text(client.peer), "does not answer")
            return
        arrival = self.kernel.now + self._latency()
        self.kernel.call_at(arrival, lambda: self._syn_arrives(client))

    def connect_now(self, client: End) -> None:
        """Connect within the machine, which succeeds or fails at once.

        Raises:
            ConnectionRefusedError: there is no listener.
            BlockingIOError: the backlog is full.
        """
        backlog = self._find(client.peer)
        if backlog is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if backlog.full:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._establish(client, backlog, self.kernel.now)
        client.connected = True

    def is_listening(self, name: Name) -> bool:
        """Whether there is a listener with exactly this name."""
        return _key(name) in self.listeners

    def _find(self, name: Name) -> Backlog | None:
        """The listener that connections to this name reach."""
        if isinstance(name, str):
            return self.listeners.get(name)
        keys = [_key(name), *((host, name[1]) for host in ANY)]
        found = (self.listeners.get(key) for key in keys)
        return next((backlog for backlog in found if backlog is not None), None)

    def _forget_if_over(self, link: Link) -> None:
        if link.over:
            self.links.pop(link, None)

    def _syn_arrives(self, client: End) -> None:
        if client.closed:
            return
        random, chance = self.kernel.random, self.network.refusals
        backlog = self._find(client.peer)
        answered = self.kernel.now + self._latency()
        if backlog is None or (chance and random.random() < chance):
            self.trace.add(_text(client.peer), "refuses", _text(client.own))
            self.kernel.call_at(answered, lambda: self._refused(client))
        elif backlog.full:
            self.kernel.call_at(self.kernel.now + _SYN_RETRY, lambda: self._syn_arrives(client))
        else:
            self._establish(client, backlog, answered)
            self.kernel.call_at(answered, lambda: self._connected(client))

    def _establish(self, client: End, backlog: Backlog, when: float) -> None:
        server = self.create_end(client.peer, client.own)
        self._count += 1
        client.outgoing = server.incoming = self._pipe(f"#{self._count} >", client, server, when)
        server.outgoing = client.incoming = self._pipe(f"#{self._count} <", server, client, when)
        server.connected = True
        link = Link(client, server)
        client.on_close = server.on_close = partial(self._forget_if_over, link)
        self.links[link] = None
        self.trace.add(f"#{self._count}", "connects", f"{_text(client.own)} {_text(client.peer)}")
        backlog.enqueue(server)

    def _pipe(self, name: str, source: End, target: End, when: float) -> Pipe:
        pipe = Pipe(self._medium, name, source)
        pipe.target = target
        pipe.open_at(when)
        return pipe

    def _connected(self, client: End) -> None:
        client.connected = True
        if client.closed:
            client.outgoing.reset()
            client.on_close()
        client.readiness_changed()

    def _refused(self, client: End) -> None:
        client.error = errno.ECONNREFUSED
        client.readiness_changed()

    def _latency(self) -> float:
        return magnitude(self.kernel.random, *self.network.latency)


def _key(name: Name) -> Name:
    """The key under which a listener is registered: IPv6 names have two more numbers."""
    return name if isinstance(name, str) else name[:2]


def _text(name: Name) -> str:
    return repr(name) if isinstance(name, str) else f"{name[0]}:{name[1]}"

"""What simulated descriptors stand for: ends of connections, and listeners."""

from __future__ import annotations

import errno
import os
import selectors
from collections import deque
from typing import Final, TypeAlias

from .kernel import Kernel
from .network import Network, magnitude
from .pipe import Pipe
from .trace import Trace

Name: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
"""What getsockname(2) tells: of IPv4, IPv6, and of a Unix socket."""

_SYN_RETRY: Final = 1.0
"""Seconds after which a connection that found a full backlog is tried again (tcp(7))."""

_FIRST_PORT: Final = 32_768
_LAST_PORT: Final = 60_999
"""Between which Linux chooses, too (ip(7), ip_local_port_range)."""

ANY: Final = ("0.0.0.0", "::", "")  # noqa: S104 - the hosts that mean all of them


class End:
    """One end of a connection.

    Args:
        fabric: the network that it is part of.
        own: its own name.
        peer: the other end's.

    Attributes:
        closed: the program has closed it.
        connected: whether the connection is there, as far as this end knows.
        error: what the next call fails with; 0 for nothing.
        lost: reset: nothing comes or goes any more.
        descriptors: that stand for it.
    """

    def __init__(self, fabric: Fabric, own: Name, peer: Name) -> None:
        self._fabric = fabric
        self.own = own
        self.peer = peer
        self.closed = self.connected = self.lost = False
        self.error = 0
        self.descriptors: dict[int, None] = {}
        self.outgoing: Pipe
        self.incoming: Pipe

    def readiness(self) -> int:
        """Readable at data, an end, an error; writable at room, an error, and once all is said."""
        if not self.connected:
            return selectors.EVENT_WRITE if self.error else 0
        over = self.error or self.lost
        read = over or self.incoming.arrived or self.incoming.ended
        write = over or self.outgoing.shut or self.outgoing.room > 0
        return (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)

    def stir(self) -> None:
        """It may be ready now."""
        self._fabric.kernel.stir(self.descriptors)

    def take_error(self) -> int:
        """The error, which is told once."""
        error, self.error = self.error, 0
        return error

    def lose(self) -> None:
        """A reset has arrived. What has arrived before it can still be read (tcp(7))."""
        if not self.closed and not self.lost:
            self.lost = True
            self.error = errno.EPIPE if self.incoming.ended else errno.ECONNRESET
            self.outgoing.drop()
            self.stir()

    def break_down(self) -> None:
        """The network forgets the connection: both ends learn it, each in its own time."""
        self.outgoing.reset()
        self.incoming.reset()

    def close(self, *, hard: bool) -> None:
        """Send what is left, then the end of the stream.

        A reset instead if that was asked for, or if something unread is thrown away: the peer
        must not believe that it was received (RFC 2525, 2.17).
        """
        self.closed = True
        if not self.connected:
            return
        if not self.lost:
            if hard or self.incoming.arrived:
                self.outgoing.reset()
            else:
                self.outgoing.shut_down()
        self.incoming.arrived.clear()
        self._fabric.tidy()


class Backlog:
    """A listening socket's queue of connections that nobody has accepted yet."""

    def __init__(self, fabric: Fabric, name: Name, size: int) -> None:
        self._fabric = fabric
        self.name = name
        self.size = size
        self.waiting: deque[End] = deque()
        self.descriptors: dict[int, None] = {}

    def readiness(self) -> int:
        """Readable when somebody waits."""
        return selectors.EVENT_READ if self.waiting else 0

    def put(self, end: End) -> None:
        """Queue one."""
        self.waiting.append(end)
        self._fabric.kernel.stir(self.descriptors)

    def take(self) -> End:
        """The one that waits longest.

        Raises:
            BlockingIOError: nobody waits.
            OSError: the network's ``accept_failures``.
        """
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        random, chance = self._fabric.kernel.random, self._fabric.network.accept_failures
        if chance and random.random() < chance:
            failure = random.choice((errno.EMFILE, errno.ECONNABORTED))
            self._fabric.trace.add("accept", "fails:", os.strerror(failure))
            if failure == errno.ECONNABORTED:
                self.waiting.popleft().close(hard=True)
            raise OSError(failure, os.strerror(failure))
        return self.waiting.popleft()

    def close(self, *, hard: bool) -> None:  # noqa: ARG002 - of no use to a listener
        """Those who wait are reset."""
        self._fabric.listeners.pop(place_of(self.name), None)
        for end in self.waiting:
            end.close(hard=True)


class Link:
    """One connection of the simulated network, to be disturbed by hand.

    Attributes:
        client: the name of the end that connected.
        server: the name of the end that it connected to.
    """

    def __init__(self, client: End, server: End) -> None:
        self._ends = client, server
        self.client = client.own
        self.server = server.own

    def reset(self) -> None:
        """Break it: both ends lose it, after what was under way to them has arrived."""
        self._ends[0].break_down()

    def stall(self, seconds: float) -> None:
        """Hold up, in both directions, what is sent from now on."""
        for end in self._ends:
            end.outgoing.stall(seconds)

    @property
    def under_way(self) -> int:
        """Bytes that were written and have not arrived, in both directions."""
        return sum(end.outgoing.under_way for end in self._ends)

    @property
    def over(self) -> bool:
        """Whether both ends are done with it."""
        return all(end.closed or end.lost for end in self._ends)

    def check(self) -> None:
        """Hold that the network keeps to its own bounds."""
        for end in self._ends:
            end.outgoing.check()

    def __repr__(self) -> str:
        return f"<Link {self.client} {self.server}>"


class Fabric:
    """All listeners and connections of a simulated network.

    Attributes:
        checksum: of all bytes that ever travelled, in the order in which they left.
        links: connections, as far as one of their ends is in use.
    """

    def __init__(self, kernel: Kernel, network: Network, trace: Trace) -> None:
        self.kernel = kernel
        self.network = network
        self.trace = trace
        self.checksum = 0
        self.listeners: dict[Name, Backlog] = {}
        self.links: list[Link] = []
        self._count = 0
        self._port = _FIRST_PORT

    def port(self) -> int:
        """A port that nobody listens on, and that was not given out lately."""
        taken = {name[1] for name in self.listeners if not isinstance(name, str)}
        while True:
            self._port = self._port + 1 if self._port < _LAST_PORT else _FIRST_PORT
            if self._port not in taken:
                return self._port

    def find(self, name: Name) -> Backlog | None:
        """Who listens there."""
        if isinstance(name, str):
            return self.listeners.get(name)
        places = [place_of(name), *((host, name[1]) for host in ANY)]
        found = (self.listeners.get(place) for place in places)
        return next((backlog for backlog in found if backlog is not None), None)

    def connect(self, client: End) -> None:
        """Begin to connect over the network; the end learns how that went."""
        if not isinstance(client.peer, str) and client.peer[0] in self.network.silent:
            self.trace.add(_text(client.peer), "does not answer")
            return
        self.kernel.at(self.kernel.now + self._latency(), lambda: self._knock(client))

    def connect_now(self, client: End) -> None:
        """Connect within the machine: it succeeds or fails at once.

        Raises:
            ConnectionRefusedError: nobody listens.
            BlockingIOError: the backlog is full.
        """
        backlog = self.find(client.peer)
        if backlog is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if len(backlog.waiting) >= backlog.size:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._join(client, backlog, self.kernel.now)
        client.connected = True

    def tidy(self) -> None:
        """Forget connections that are over."""
        self.links = [link for link in self.links if not link.over]

    def _knock(self, client: End) -> None:
        if client.closed:
            return
        random, chance = self.kernel.random, self.network.refusals
        backlog = self.find(client.peer)
        answered = self.kernel.now + self._latency()
        if backlog is None or (chance and random.random() < chance):
            self.trace.add(_text(client.peer), "refuses", _text(client.own))
            self.kernel.at(answered, lambda: self._refused(client))
        elif len(backlog.waiting) >= backlog.size:
            self.kernel.at(self.kernel.now + _SYN_RETRY, lambda: self._knock(client))
        else:
            self._join(client, backlog, answered)
            self.kernel.at(answered, lambda: self._connected(client))

    def _join(self, client: End, backlog: Backlog, when: float) -> None:
        server = End(self, client.peer, client.own)
        self._count += 1
        there = Pipe(self, f"#{self._count} >", client)
        back = Pipe(self, f"#{self._count} <", server)
        client.outgoing = server.incoming = there
        server.outgoing = client.incoming = back
        there.target, back.target = server, client
        there.opens_at(when)
        back.opens_at(when)
        server.connected = True
        self.links.append(Link(client, server))
        self.trace.add(f"#{self._count}", "connects", f"{_text(client.own)} {_text(client.peer)}")
        backlog.put(server)

    def _connected(self, client: End) -> None:
        client.connected = True
        if client.closed:
            client.outgoing.reset()
        client.stir()

    def _refused(self, client: End) -> None:
        client.error = errno.ECONNREFUSED
        client.stir()

    def _latency(self) -> float:
        return magnitude(self.kernel.random, *self.network.latency)


def place_of(name: Name) -> Name:
    """Under which a listener is found: IPv6 has two more numbers in its names."""
    return name if isinstance(name, str) else name[:2]


def _text(name: Name) -> str:
    return repr(name) if isinstance(name, str) else f"{name[0]}:{name[1]}"

"""What the reactor's tests share: every poller that runs here, and sockets that get closed."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from tofu_aio.reactor import ReactorSelector
from tofu_aio.reactor.pollers import Poller

POLLERS: dict[str, Callable[[], Poller]] = {}
if hasattr(select, "poll"):
    from tofu_aio.reactor.pollers.poll import PollPoller

    POLLERS["poll"] = PollPoller
if hasattr(select, "epoll"):
    from tofu_aio.reactor.pollers.epoll import EpollPoller

    POLLERS["epoll"] = EpollPoller
if sys.platform == "win32":
    from tofu_aio.reactor.pollers.wepoll import WepollPoller

    POLLERS["wepoll"] = WepollPoller

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=sorted(POLLERS))
def make_poller(request: pytest.FixtureRequest) -> Callable[[], Poller]:
    """Each kind of poller that runs here."""
    return POLLERS[request.param]


@pytest.fixture
def poller(make_poller: Callable[[], Poller]) -> Iterator[Poller]:
    poller = make_poller()
    yield poller
    poller.close()


@pytest.fixture
def selector(make_poller: Callable[[], Poller]) -> Iterator[ReactorSelector]:
    with ReactorSelector(make_poller) as selector:
        yield selector


@pytest.fixture
def make_pair() -> Iterator[Callable[[], Pair]]:
    """Make connected, non-blocking stream sockets; all that are still open close at the end."""
    made: list[socket.socket] = []

    def make() -> Pair:
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        made.extend((left, right))
        return left, right

    yield make
    for sock in made:
        sock.close()

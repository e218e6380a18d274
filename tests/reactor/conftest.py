"""What the reactor's tests share: every poller that runs here, and sockets that get closed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.reactor.every_poller import POLLERS
from tofu_aio.reactor import ReactorSelector
from tofu_aio.reactor.pollers import Poller

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

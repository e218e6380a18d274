"""What the reactor's tests share: every poller that runs here, and sockets that get closed."""

from __future__ import annotations

import signal
import socket
import sys
import threading
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


@pytest.fixture
def make_pair_at() -> Iterator[Callable[[int], Pair]]:
    """Make such sockets, the first with a number that was closed before."""
    made: list[socket.socket] = []

    def make(number: int) -> Pair:
        # Not by a socketpair, which on Windows uses up some numbers before.
        while (left := socket.socket()).fileno() != number:
            made.append(left)
            if len(made) > 100:
                pytest.skip("the system does not hand out the number again")
        made.append(left)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            left.connect(listener.getsockname())
            right, _ = listener.accept()
        made.append(right)
        left.setblocking(False)
        right.setblocking(False)
        return left, right

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def interrupt() -> Iterator[Callable[[Callable[..., object], float], None]]:
    """Arm a one-shot signal with a handler of the test's."""
    if sys.platform == "win32":
        # No alarms there; any thread may raise the one that Ctrl-C does.
        number = signal.SIGINT
        timers: list[threading.Timer] = []

        def start(seconds: float) -> None:
            timers.append(threading.Timer(seconds, signal.raise_signal, [number]))
            timers[-1].start()

        def stop() -> None:
            for timer in timers:
                timer.cancel()
                timer.join()
    else:
        number = signal.SIGALRM

        def start(seconds: float) -> None:
            signal.setitimer(signal.ITIMER_REAL, seconds)

        def stop() -> None:
            start(0)

    old = signal.getsignal(number)

    def arm(handler: Callable[..., object], seconds: float) -> None:
        signal.signal(number, handler)
        start(seconds)

    yield arm
    stop()
    signal.signal(number, old)

"""Fixtures for the blocking API: engines on every loop, and a check that nothing is left behind."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import tofu_aio as tofu
from tests.conftest import _LOOPS, open_descriptors
from tofu_aio import blocking
from tofu_aio.reactor import LoopFactory

POOL = 8
# Seconds until something hangs. Under Wine, threads that call each other are slow.
PATIENCE = 20.0 if sys.platform != "win32" else 100.0


@pytest.fixture(params=_LOOPS)
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    """The factory of each loop that is installed."""
    return tofu.loop_factory(request.param)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Check after each test that there are no more threads and descriptors than before it."""
    gc.collect()
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    gc.collect()
    # Threads that look up names, or call functions that may block, end some time later.
    own = ("tofu_aio name look-up", "tofu_aio reconnecting")
    left = {t for t in set(threading.enumerate()) - threads if not t.name.startswith(own)}
    assert not left, f"threads left behind: {left}"
    found = open_descriptors()
    assert len(found) <= len(descriptors), f"left behind: {found.items() - descriptors.items()}"


@pytest.fixture
def engine(loop_factory: LoopFactory) -> Iterator[blocking.Engine]:
    """An engine with a small pool. When it closes, no permit, channel or waiting call is left."""
    with blocking.Engine(POOL, loop_factory=loop_factory) as engine:
        yield engine
    gc.collect()
    left = engine.statistics()
    assert left.pool_free == left.pool_size, "permits left behind"
    assert (left.reserves, left.joining_bytes) == (0, 0), "reserves or bodies left behind"
    assert (left.channels, left.waiting, left.over_share) == (0, 0, 0), "channels left behind"


@pytest.fixture
def group(engine: blocking.Engine) -> Iterator[blocking.ChannelGroup]:
    """A group of that engine."""
    with engine.create_group() as group:
        yield group


@pytest.fixture
def listener(group: blocking.ChannelGroup) -> Iterator[blocking.Listener]:
    """A listener over TCP."""
    with group.listen("tcp://127.0.0.1:0") as listener:
        yield listener


class Beside:
    """Runs a function in a thread beside the test, and keeps what it returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._result: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> object:
        """Wait for the function, and return or raise what it did."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the thread is still waiting"
        try:
            if self._error is not None:
                raise self._error
            return self._result
        finally:
            self._error = self._result = None


@pytest.fixture
def pair(
    group: blocking.ChannelGroup, listener: blocking.Listener
) -> Iterator[tuple[blocking.Channel, blocking.Channel]]:
    """Both ends of a channel."""
    accepting = Beside(listener.accept)
    client = group.connect(listener.address)
    server = accepting.result()
    assert isinstance(server, blocking.Channel)
    yield client, server
    closing = Beside(client.close)  # it waits until the server closes, too
    server.close()
    closing.result()

"""What all tests share: every async test runs on every loop, and nothing may be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import itertools
import linecache
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import settings

import tofu_aio as tofu
from tests.cores import DESCRIBED, wrong_core

# Time limits of single examples mean nothing on a shared machine.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# A shell that starts a job in the background lets it, and all its children, ignore Ctrl-C; and some
# tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# asyncio's debug mode keeps the whole stack of each future, task and handle, and asks each time
# whether its sources have changed. Two frames tell enough, and all took most of the tests' time.
linecache.checkcache = lambda filename=None: None
asyncio.constants.DEBUG_STACK_DEPTH = 2
_walk_stack = traceback.walk_stack


def _walk_little(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    return itertools.islice(_walk_stack(frame), asyncio.constants.DEBUG_STACK_DEPTH)


traceback.walk_stack = _walk_little  # Futures made in C know of no depth.

HAS_UDS = hasattr(__import__("socket"), "AF_UNIX")
HAS_ABSTRACT = sys.platform == "linux"

_LOOPS = ["reactor", "asyncio"]
_LOOPS += [name for name in ("uvloop", "winloop") if find_spec(name) is not None]


def pytest_configure() -> None:
    """Run no tests with another core than the session is for."""
    if (problem := wrong_core()) is not None:
        raise pytest.UsageError(problem)


def pytest_report_header() -> str:
    """Say in the log which core is tested."""
    return f"core: {DESCRIBED}"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that messaging promises to run on, as far as they are installed here."""
    return {name: tofu.loop_factory(name) for name in _LOOPS}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that forks in a process without other threads, if there may be any here."""
    # Those of pytest-xdist's workers are not counted.
    others = hasattr(pyfuncitem.config, "workerinput") or threading.active_count() > 1
    if pyfuncitem.get_closest_marker("forks") is None or not others:
        return None
    python = [sys.executable, *(("-X", "dev") if sys.flags.dev_mode else ())]
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    alone = subprocess.run(
        [*python, "-m", "pytest", *options, pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env={name: value for name, value in os.environ.items() if "XDIST" not in name},
        capture_output=True,
        text=True,
        check=False,
    )
    if alone.returncode:
        pytest.fail(f"in a process of its own:\n{alone.stdout}{alone.stderr}", pytrace=False)
    return True


def open_descriptors() -> dict[str, str]:
    """The descriptors this process has open, and what they are (Linux); none elsewhere."""
    folder = Path("/proc/self/fd")
    found = {}
    for entry in folder.iterdir() if sys.platform == "linux" else ():
        with contextlib.suppress(FileNotFoundError):  # the folder's own, gone by now
            found[entry.name] = str(entry.readlink())
    # libuv keeps one in reserve, to accept and refuse connections when it has run out of others.
    # And a thread that resolves a name may be reading the system's files.
    return {
        number: target
        for number, target in found.items()
        if target != "/dev/null" and not target.startswith("/etc/")
    }


@pytest.fixture(scope="session", autouse=True)
def made_once() -> None:
    """What a library makes with its first loop and keeps: libuv's pipe for signals, say."""
    for name in _LOOPS:
        tofu.loop_factory(name)().close()


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """No test leaves a signal handled, ignored or blocked: a later one may need it."""
    before = _signals()
    yield
    assert _signals() == before, "a signal is handled in another way than before the test"


def _signals() -> tuple[object, ...]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    blocked: set[int] = set()
    if sys.platform != "win32":
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return handlers, blocked


@pytest.fixture(autouse=True)
def watched(request: pytest.FixtureRequest) -> None:
    """Watch each async test; the others need no loop to be watched from."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("nothing_left_behind")


@pytest.fixture
async def nothing_left_behind() -> AsyncIterator[None]:
    """After each async test: no task of its own, and no descriptor more than before it."""
    gc.collect()
    gc.freeze()  # what lives longer than a test need not be looked through at its end
    before = open_descriptors()
    yield
    # A transport closes its socket in the turn after connection_lost.
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert not tasks, f"tasks left behind: {tasks}"
    left = open_descriptors()
    assert len(left) <= len(before), f"descriptors left behind: {left.items() - before.items()}"


@pytest.fixture
def socket_path() -> Iterator[str]:
    """A path for a Unix socket, short enough for every system; its folder must end up empty."""
    if not HAS_UDS:
        pytest.skip("this Python has no Unix sockets on this system")
    with tempfile.TemporaryDirectory(prefix="tofu", dir="/tmp") as folder:
        path = Path(folder, "s")
        yield str(path)
        assert not list(Path(folder).iterdir()), "a socket file was left behind"


@pytest.fixture(params=["tcp", "uds"])
def transport_address(request: pytest.FixtureRequest) -> str:
    """An address of each kind that the kernel treats differently once connected."""
    if request.param == "tcp":
        return "tcp://127.0.0.1:0"
    if not HAS_UDS:
        pytest.skip("this Python has no Unix sockets on this system")
    return f"uds://{request.getfixturevalue('socket_path')}"


@pytest.fixture(params=["tcp", "uds", "abstract"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address to listen on, of each kind that this system has."""
    match request.param:
        case "tcp":
            yield "tcp://127.0.0.1:0"
        case "uds":
            yield f"uds://{request.getfixturevalue('socket_path')}"
        case _:
            if not HAS_ABSTRACT:
                pytest.skip("only Linux has abstract socket names")
            yield f"uds://@tofu-test-{os.getpid()}"


@pytest.fixture
async def engine() -> AsyncIterator[tofu.Engine]:
    """An engine with a small pool; at its end no permit, channel or waiter may be left."""
    async with tofu.Engine(pool_messages=8) as engine:
        yield engine
    gc.collect()
    left = engine.statistics()
    assert left.pool_free == left.pool_size, "permits left behind"
    assert (left.reserves, left.joining_bytes) == (0, 0), "reserves or bodies left behind"
    assert (left.channels, left.waiting, left.over_share) == (0, 0, 0), "channels left behind"


@pytest.fixture
async def group(engine: tofu.Engine) -> AsyncIterator[tofu.ChannelGroup]:
    """A channel group of that engine."""
    async with engine.create_group() as group:
        yield group

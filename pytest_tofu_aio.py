"""The pytest plugin of tofu_aio: fixtures whose names begin with ``tofu_``.

It stands outside the package because pytest imports it in every run: importing the package takes a
quarter of a second, and would happen before coverage is measured. Until a test asks for a fixture,
this module does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import suppress
from types import FunctionType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import pytest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from tofu_aio import ChannelGroup, Engine
    from tofu_aio.testing import ClientFixture, ServeFixture, WorldFixture


class _Failed(Exception):
    """The test has failed, so nothing is checked: its traceback keeps objects alive."""


def _stop_if_failed() -> None:
    # pytest sets this while it handles a failed call, for the debugger, and removes it before the
    # next call, as Python does at its prompt.
    if hasattr(sys, "last_value"):
        raise _Failed


# --- the loops of pytest-asyncio and anyio ------------------------------------------------

_Scope: TypeAlias = Literal["session", "package", "module", "class", "function"]

_IN_LOOP: Final = ("_tofu_tasks", "tofu_engine", "tofu_group", "tofu_service", "tofu_client")


_ORIGINALS: Final[dict[str, FunctionType]] = {}
"""The functions of these fixtures."""


class _EveryLoop:
    """An implementation of pytest-asyncio's hook that says on which loops a test runs."""

    def pytest_asyncio_loop_factories(self) -> Mapping[str, Callable[[], AbstractEventLoop]]:
        """Every loop that is installed."""
        from importlib.util import find_spec

        from tofu_aio import loop_factory

        foreign = [name for name in ("uvloop", "winloop") if find_spec(name) is not None]
        return {name: loop_factory(name) for name in ("reactor", "asyncio", *foreign)}


@pytest.hookimpl(hookwrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Run a test that uses these fixtures on every loop, unless the project chooses the loops.

    pytest-asyncio lets no implementation of its hook leave a test alone, so the hook is implemented
    only for the tests that it concerns.
    """
    hook = getattr(metafunc.definition.ihook, "pytest_asyncio_loop_factories", None)
    if (
        hook is None  # pytest-asyncio is not there, or is older than 1.4
        or hook.get_hookimpls()
        or not any(name in metafunc.fixturenames for name in _IN_LOOP)
    ):
        yield
        return
    plugins = metafunc.config.pluginmanager
    every_loop = _EveryLoop()
    plugins.register(every_loop)
    try:
        yield
    finally:
        plugins.unregister(every_loop)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None]:
    """Set up an async fixture in the loop of its test.

    anyio takes any async fixture. pytest-asyncio in its strict mode takes only those that are
    marked for it, and a marked one would run in its loop in anyio's tests too. So it gets a copy
    that is marked for this test.
    """
    function = fixturedef.func
    if fixturedef.argname in _IN_LOOP and getattr(function, "__module__", "") == __name__:
        original = _ORIGINALS.setdefault(fixturedef.argname, cast("FunctionType", function))
        # Both plugins replace the function in this way, too.
        fixturedef.func = _fitting(original, request)  # type: ignore[misc]
    yield


def _fitting(function: FunctionType, request: pytest.FixtureRequest) -> Callable[[], object]:
    """A copy of a fixture's function for the plugin that runs the test."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    scope = _loop_scope(request)
    has_backend = "anyio_backend" in request.fixturenames
    if scope is None:
        return copy if has_backend else _needs_a_loop
    if has_backend:
        return _refuse
    import pytest_asyncio

    pytest_asyncio.fixture(copy, loop_scope=scope)
    return copy


def _needs_a_loop(**_: object) -> None:
    pytest.fail(
        "the fixtures of tofu_aio need an event loop: make the test an 'async def', and mark it "
        "with @pytest.mark.asyncio or @pytest.mark.anyio",
        pytrace=False,
    )


def _refuse(**_: object) -> None:
    pytest.fail(
        "pytest-asyncio runs this test, and anyio its fixtures, in another loop: set asyncio_mode "
        "to 'strict', or remove one of the two marks",
        pytrace=False,
    )


def _loop_scope(request: pytest.FixtureRequest) -> _Scope | None:
    """The scope of the loop in which pytest-asyncio runs the test; None if it does not run it."""
    if not request.config.pluginmanager.has_plugin("asyncio"):
        return None
    from pytest_asyncio import is_async_test

    if not is_async_test(request.node):
        return None
    marker = request.node.get_closest_marker("asyncio")
    scope = marker.kwargs.get("loop_scope") if marker is not None else None
    return cast("_Scope", scope or request.config.getini("asyncio_default_test_loop_scope"))


# --- in the test's loop -------------------------------------------------------------------


@pytest.fixture
async def _tofu_tasks() -> AsyncGenerator[None]:
    """Checks for tasks after the other fixtures, because both ends of a channel have some."""
    from tofu_aio.testing.leftovers import checked_tasks

    with suppress(_Failed):
        async with checked_tasks():
            yield
            _stop_if_failed()


@pytest.fixture
async def tofu_engine(_tofu_tasks: None) -> AsyncGenerator[Engine]:
    """An entered engine with default options. At its end no task, channel or permit may be left."""
    from tofu_aio.testing.leftovers import checked_engine

    with suppress(_Failed):
        async with checked_engine() as engine:
            yield engine
            _stop_if_failed()


@pytest.fixture
async def tofu_group(tofu_engine: Engine) -> AsyncGenerator[ChannelGroup]:
    """A channel group of ``tofu_engine``."""
    async with tofu_engine.create_group() as group:
        yield group


@pytest.fixture
async def tofu_service(_tofu_tasks: None) -> AsyncGenerator[ServeFixture]:
    """A function that serves a service until the end of the test, and returns its addresses."""
    from tofu_aio.testing.services import services

    with suppress(_Failed):
        async with services() as serve:
            yield serve
            _stop_if_failed()


@pytest.fixture
async def tofu_client(tofu_service: ServeFixture) -> AsyncGenerator[ClientFixture]:
    """A function that makes a client of a service or an address, until the end of the test."""
    from tofu_aio.testing.services import clients

    with suppress(_Failed):
        async with clients(tofu_service) as client:
            yield client
            _stop_if_failed()


# --- without a loop -----------------------------------------------------------------------


@pytest.fixture
def tofu_world() -> Generator[WorldFixture]:
    """Makes simulated worlds: ``tofu_world(seed).run(main())``."""
    from tofu_aio.testing.worlds import worlds

    with suppress(_Failed), worlds() as world:
        yield world
        _stop_if_failed()


@pytest.fixture
def tofu_tcp_address() -> Generator[str]:
    """A TCP address of this machine that nobody listens on."""
    from tofu_aio.testing.addresses import tcp_address

    with tcp_address() as address:
        yield address


@pytest.fixture
def tofu_unix_address() -> Generator[str]:
    """An address for a Unix socket, which is removed after the test."""
    from tofu_aio.testing.addresses import HAS_UNIX, unix_address

    if not HAS_UNIX:
        pytest.skip("this Python has no Unix sockets on this system")
    with unix_address() as address:
        yield address

"""The pytest plugin, in small projects that have a pytest process each."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import _LOOPS

SERVICE = """
import asyncio, socket, sys
import pytest
import tofu_aio as tofu

service = tofu.Service()

@service.handler("double")
async def double(number: int) -> int:
    return 2 * number

@service.handler("loop")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

async def calls(client):
    assert await client.call("double", 4, result=int) == 8
    assert await client.call("loop", result=str) == await loop()
"""

TESTS = """
async def test_a_client_of_a_service(tofu_client):
    await calls(await tofu_client(service, call_timeout=10))
    await calls(await tofu_client(service))

async def test_a_client_of_an_address(tofu_service, tofu_client, tofu_tcp_address):
    addresses = await tofu_service(service, tofu_tcp_address, "tcp://127.0.0.1:0")
    assert str(addresses[0]) == tofu_tcp_address
    await calls(await tofu_client(*addresses))

async def test_an_engine(tofu_engine, tofu_group, tofu_service):
    address, = await tofu_service(service)
    async with tofu_group.connect(address) as channel:
        with await channel.request(headers={"call": "double"}) as answer:
            assert answer.headers["code"] == "invalid_argument"
        assert tofu_engine.statistics().channels == 1
"""
COUNT = 3

ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture(params=[("asyncio", {"loop_factory": tofu.new_event_loop}), "asyncio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
async def address(tofu_service):
    return (await tofu_service(service))[0]

async def test_a_fixture_of_the_project(tofu_client, address):
    await calls(await tofu_client(address))
"""


class Run:
    """What a run of pytest has printed.

    Attributes:
        outcomes: how many tests have passed, failed and so on.
        text: all of it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        last = text.strip().splitlines()[-1] if text.strip() else ""
        counts = re.findall(r"(\d+) (passed|failed|error|skipped|warning)", last)
        self.outcomes = {name: int(count) for count, name in counts}


def run(folder: Path, *options: str, mode: str = "strict", **modules: str) -> Run:
    """Run pytest on test modules and a conftest, with this plugin."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, "utf-8")
    (folder / "pytest.ini").write_text(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings = error\n"
    )
    python = [sys.executable, "-m", "pytest", "-p", "pytest_tofu_aio", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*python, "-p", "no:xdist", "-p", "no:timeout", "-rA", "--tb=short", *options],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
    )
    return Run(done.stdout + done.stderr)


def test_tests_of_pytest_asyncio_and_anyio_run_side_by_side_in_strict_mode(tmp_path: Path) -> None:
    """Those of pytest-asyncio on every loop, those of anyio on its backends, and no others."""
    others = "import pytest\n@pytest.mark.asyncio\nasync def test_other(): pass"
    ran = run(
        tmp_path,
        test_asyncio=f"{SERVICE}\npytestmark = pytest.mark.asyncio\n{TESTS}",
        test_anyio=SERVICE + ANYIO + TESTS,
        test_others=others,
    )
    tests = COUNT * len(_LOOPS) + (COUNT + 1) * 2 + 1
    assert ran.outcomes == {"passed": tests}, ran.text
    for name in _LOOPS:
        assert f"PASSED test_asyncio.py::test_an_engine[{name}]" in ran.text
    assert "PASSED test_others.py::test_other\n" in ran.text


def test_fixtures_run_in_auto_mode_and_in_the_loop_of_a_module(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        mode="auto",
        test_auto=SERVICE + TESTS,
        test_scope=f'{SERVICE}\npytestmark = pytest.mark.asyncio(loop_scope="module")\n{TESTS}',
    )
    assert ran.outcomes == {"passed": 2 * COUNT * len(_LOOPS)}, ran.text


def test_anyio_needs_no_pytest_asyncio(tmp_path: Path) -> None:
    ran = run(tmp_path, "-p", "no:asyncio", "-W", "ignore", test_anyio=SERVICE + ANYIO + TESTS)
    assert ran.outcomes == {"passed": (COUNT + 1) * 2}, ran.text


def test_a_project_may_choose_the_loops_itself(tmp_path: Path) -> None:
    source = SERVICE + 'async def test(tofu_client): assert await loop() == "tofu_aio"'
    assert run(tmp_path, mode="auto", conftest=ONE_LOOP, test_loop=source).outcomes == {"passed": 1}


LEAVING = """
kept = []

async def test_task(tofu_engine):
    kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))

async def test_message(tofu_group, tofu_service):
    channel = await tofu_group.connect((await tofu_service(service))[0])
    kept.append(channel)
    for _ in range(3):
        await channel.request(headers={"call": "ask back"})
    kept.append(await channel.receive())
    kept.append(await channel.receive())

@service.handler("ask back")
async def ask_back(call: tofu.Call) -> None:
    await call.channel.signal(b"message")

def test_socket(tofu_world):
    async def main():
        kept.append(await asyncio.start_server(print, "127.0.0.1", 0))

    tofu_world(77).run(main())

async def test_failure(tofu_group, tofu_service, tofu_client):
    client = await tofu_client(service)
    channel = await tofu_group.connect((await tofu_service(service))[0])
    for _ in range(3):
        await channel.request(headers={"call": "ask back"})
    messages = [await channel.receive() for _ in range(3)]
    task = asyncio.create_task(asyncio.Event().wait())
    assert not messages

def test_failure_in_a_world(tofu_world):
    world = tofu_world(99)

    async def main():
        await asyncio.start_server(print, "127.0.0.1", 0)
        world.note("the test", "is about to fail")
        assert False

    world.run(main())
"""

ONE_LOOP = """
import tofu_aio
def pytest_asyncio_loop_factories(config, item):
    return {"mine": tofu_aio.new_event_loop}
"""


def test_what_a_test_leaves_behind_is_an_error_unless_it_has_failed(tmp_path: Path) -> None:
    ran = run(tmp_path, mode="auto", conftest=ONE_LOOP, test_left=SERVICE + LEAVING)
    assert ran.outcomes == {"passed": 3, "error": 3, "failed": 2}, ran.text
    assert "1 tasks are still running at the end: forgotten" in ran.text
    assert "3 messages were received and not released" in ran.text
    assert "the program in the world with seed 77 has left 1 sockets open" in ran.text
    assert "the world with seed 99:" in ran.text
    assert "the test     is about to fail" in ran.text


def test_a_test_that_both_plugins_would_run_is_told_so(tmp_path: Path) -> None:
    source = f"{SERVICE}\npytestmark = pytest.mark.anyio\n{TESTS}"
    ran = run(tmp_path, mode="auto", conftest=ONE_LOOP, test_both=source)
    assert ran.outcomes["error"] == COUNT, ran.text
    assert "pytest-asyncio runs this test, and anyio its fixtures" in ran.text


def test_a_test_without_a_loop_is_told_so_and_the_next_one_runs(tmp_path: Path) -> None:
    source = f"""{SERVICE}
def test_sync(tofu_client): pass

@pytest.mark.asyncio
async def test_async(tofu_client): pass
"""
    ran = run(tmp_path, mode="strict", conftest=ONE_LOOP, test_both=source)
    assert ran.outcomes["error"] == 1, ran.text
    assert ran.outcomes["passed"] == 1, ran.text
    assert "make the test an 'async def', and mark it" in ran.text


def test_nothing_happens_in_a_project_that_uses_no_fixture(tmp_path: Path) -> None:
    """The package is not imported, and its tests run as without the plugin."""
    conftest = """
import sys
def pytest_sessionfinish(session):
    assert "pytest_tofu_aio" in sys.modules
    print("imported:", sorted(name for name in sys.modules if name.startswith("tofu_aio")))
"""
    source = """
import asyncio, pytest
@pytest.fixture
async def number(): return 7
async def test_async(number): assert number == 7
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio(): pass
def test_sync(): pass
"""
    ran = run(tmp_path, mode="auto", conftest=conftest, test_plain=source)
    assert ran.outcomes == {"passed": 3}, ran.text
    assert "imported: []" in ran.text
    assert "PASSED test_plain.py::test_async\n" in ran.text


def test_the_address_of_a_unix_socket_is_skipped_where_there_are_none(tmp_path: Path) -> None:
    conftest = "import tofu_aio.testing.addresses as addresses\naddresses.HAS_UNIX = False"
    ran = run(
        tmp_path, conftest=conftest, test_unix="def test(tofu_unix_address): raise AssertionError"
    )
    assert ran.outcomes == {"skipped": 1}, ran.text
    assert "this Python has no Unix sockets on this system" in ran.text


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    page = Path(__file__).parents[1] / "docs" / "howto" / "testing.md"
    found = re.search(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    ran = run(tmp_path, test_example=found[1])
    assert ran.outcomes == {"passed": 2 * len(_LOOPS) + 1}, ran.text


def test_the_entry_point_has_the_name_of_the_module() -> None:
    """Then ``-p pytest_tofu_aio`` works beside the entry point, and ``-p no:`` turns it off."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    points = tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"]["pytest11"]
    assert points == {"pytest_tofu_aio": "pytest_tofu_aio"}
    assert find_spec("pytest_tofu_aio") is not None

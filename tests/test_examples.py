"""The examples, run as a user runs them, in processes of their own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.processes import Running, signals, spawn, unix

LOOPS = ["reactor", "asyncio", *filter(find_spec, ("uvloop", "winloop"))]

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """The echo server, at the address that the test asks for."""
    address = request.param.format(folder=tmp_path)
    running = spawn(EXAMPLES / "echo_server.py", address, folder=tmp_path)
    with running.process:  # closes its pipes
        yield running
        running.process.kill()


ADDRESSES = ["tcp://127.0.0.1:0", pytest.param("uds://{folder}/s", marks=unix)]


@signals
@pytest.mark.parametrize("server", ADDRESSES, indirect=True)
def test_the_quickstart(server: Running, tmp_path: Path) -> None:
    address = server.listening()
    client = spawn(EXAMPLES / "echo_client.py", address, folder=tmp_path)
    assert client.finish() == (0, "hello\ntofu\n", "")
    assert server.stop() == (0, "stopped\n", "")
    assert not list(tmp_path.iterdir())


@unix
def test_the_service_and_its_client(tmp_path: Path) -> None:
    address = f"uds://{tmp_path}/s"
    service = spawn(EXAMPLES / "shop.py", address, folder=tmp_path)
    with service.process:
        while not (tmp_path / "s").exists():
            assert service.process.poll() is None
            time.sleep(0.01)  # until it listens
        client = spawn(EXAMPLES / "shop_client.py", address, folder=tmp_path)
        said = "3 x tofu 7.5\nnot_found: no beef here {'items': ['miso', 'tofu']}\n"
        assert client.finish() == (0, said, "")
        assert service.stop(signal.SIGTERM) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_a_conversation_as_messages(tmp_path: Path) -> None:
    code, out, err = spawn(EXAMPLES / "messages.py", folder=tmp_path).finish()
    assert (code, err) == (0, "")
    for op_code in ("WELCOME_RESPONSE", "HELLO_REQUEST", "HELLO_RESPONSE", "REQUEST", "RESPONSE"):
        assert f"<Message {op_code} " in out


PRINTED = """\
laser: report.pdf page 1
laser: report.pdf page 2
laser: report.pdf page 3
laser: report.pdf success
laser: thesis.pdf page 1
laser: thesis.pdf page 2
laser: thesis.pdf page 3
laser: thesis.pdf page 4
laser: thesis.pdf page 5
laser: thesis.pdf success
laser: notes.txt page 1
laser: notes.txt success
laser: no more jobs
plotter: photo.png page 1
plotter: photo.png success
plotter: map.png page 1
plotter: map.png page 2
plotter: map.png success
plotter: no more jobs
"""

# What each prints. If several tasks print, the lines may be in any order.
RECIPES: dict[str, tuple[str, str]] = {
    "blocking_api.py": ("PLAIN\nCALLS\nONLY\n", "in order"),
    "both_ways.py": (
        "THE\nQUICK\nBROWN\nFOX\nJUMPS\nOVER\nTHE\nLAZY\nDOG\n(end)\n",
        "in order",
    ),
    "download.py": ("the sum is 499500\nthe client left early\n", "in order"),
    "from_threads.py": (
        "".join(f"sensor {number}: 250, in order\n" for number in range(4)),
        "in order",
    ),
    "heartbeat.py": (
        """\
server: hello
server: nothing came from the peer for 1.5 s, and a heartbeat was due every 0.5 s
client: too late
""",
        "in order",
    ),
    "many_clients.py": (
        """\
100 clients, 2000 requests, 99000 letters
the server never had more than 8 messages at once
""",
        "in order",
    ),
    "mutual_tls.py": (
        """\
hello, alice@example.org
not on the list: eve@example.org
no handshake without a certificate
""",
        "in order",
    ),
    "print_server.py": (PRINTED, "in any order"),
    "progress.py": (
        "".join(
            f"job {job}: {what}\n"
            for job, word in ((101, "FIRST"), (102, "SECOND"))
            for what in ("0 %", "25 %", "50 %", "75 %", word)
        ),
        "in any order",
    ),
    "reconnecting.py": (
        "connected\nONE\nlost\nconnected\nTWO\nTHREE\nlost\nconnected\nFOUR\nFIVE\n",
        "in order",
    ),
    "reconnecting_tasks.py": ("10 tasks, sum 1380, over 2 channels\n", "in order"),
    "reject.py": (
        """\
hello, alice
not_allowed: unknown user, or wrong token
invalid_message: the Hello has no User header
""",
        "in order",
    ),
    "request_response.py": (
        "6 * 7 = 42\n1 + 2.5 = 3.5\n1 / 0 failed: division by zero\n",
        "in order",
    ),
    "several_listeners.py": ("tcp: hello, internet\nuds: hello, neighbour\n", "in order"),
    "slow_consumer.py": (
        """\
sent 50
sent 100
sent 150
sent 200
received 200, in order
reading was suspended: yes
""",
        "in order",
    ),
    "task_group.py": (
        "slept 0.01 s\nslept 0.02 s\ndid not wait 30 s\nlate responses so far: 0\n",
        "in any order",
    ),
    "upload.py": (
        """\
zeros was stored: 35bce4ea
forbidden was not: not_allowed: no room for it
more zeros was stored: 35bce4ea
""",
        "in order",
    ),
    "wake_up.py": ("woken up for tea\nwoken up for coffee\nthat was all\n", "in order"),
}

OVER_UDS = {"several_listeners.py"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=unix if name in OVER_UDS else ()) for name in RECIPES]
)
def test_a_recipe(name: str, tmp_path: Path) -> None:
    expected, order = RECIPES[name]
    code, out, err = spawn(EXAMPLES / name, folder=tmp_path).finish()
    assert (code, err) == (0, "")
    if order == "in order":
        assert out == expected
    else:
        assert sorted(out.splitlines()) == sorted(expected.splitlines())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_same_on_every_loop(loop: str, tmp_path: Path) -> None:
    module = "tofu_aio" if loop == "reactor" else loop
    code, out, err = spawn(EXAMPLES / "on_uvloop.py", loop, folder=tmp_path).finish()
    assert (code, out, err) == (0, f"hello from {module}\n", "")


def test_every_example_is_tested() -> None:
    others = {"echo_client.py", "echo_server.py", "messages.py", "on_uvloop.py"}
    service = {"shop.py", "shop_client.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*RECIPES, *others, *service}


def test_none_is_long() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path.name

"""The examples, run as a user runs them: two files, two terminals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import Running, signals, spawn, unix

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


def test_a_conversation_as_messages(tmp_path: Path) -> None:
    code, out, err = spawn(EXAMPLES / "messages.py", folder=tmp_path).finish()
    assert (code, err) == (0, "")
    for op_code in ("WELCOME_RESPONSE", "HELLO_REQUEST", "HELLO_RESPONSE", "REQUEST", "RESPONSE"):
        assert f"<Message {op_code} " in out


def test_none_is_forgotten() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "echo_client.py",
        "echo_server.py",
        "messages.py",
    }

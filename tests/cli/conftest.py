"""Fixtures that run the ``tofu`` command, as a process or in this one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.certificates import Files
from tests.cli.processes import Ended, Run, Running, Start, StartService, python_path, spawn
from tests.extras import WITHOUT_MSGSPEC
from tofu_aio.cli.app import run


@pytest.fixture(autouse=True)
def default_sighup() -> Iterator[None]:
    """Give SIGHUP its default action: under nohup(1) it is ignored, also by child processes."""
    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start commands as processes in ``tmp_path``; kill those that still run at the end."""
    started: list[Running] = []

    def start(
        *arguments: str | os.PathLike[str], before: Callable[[], None] | None = None
    ) -> Running:
        running = spawn("-m", "tofu_aio", *arguments, folder=tmp_path, before=before)
        started.append(running)
        return running

    yield start
    for running in started:
        with running.process:  # closes its pipes
            running.process.kill()


@pytest.fixture(scope="module")
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartService]:
    """Start services as processes; stop them at the end."""
    pytest.importorskip("msgspec", reason=WITHOUT_MSGSPEC)
    started: list[Running] = []
    tmp_path = tmp_path_factory.mktemp("services")

    def start_service(*arguments: str, address: str = "tcp://127.0.0.1:0") -> str:
        running = spawn("-m", "tests.cli.service_program", address, *arguments, folder=tmp_path)
        started.append(running)
        return running.listening()

    yield start_service
    for running in started:
        running.process.terminate()
        ended = running.finish()
        if sys.platform != "win32":  # there is no SIGTERM
            assert (ended.code, ended.err) == (0, ""), ended


@pytest.fixture
def tofu_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run commands in this process, in ``tmp_path``, where that is as good as another process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_path())  # for the processes that the command starts

    def tofu_run(*arguments: str | os.PathLike[str]) -> Ended:
        code = run([os.fspath(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return tofu_run


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates in files, in the folder of the commands."""
    return Files(tmp_path)


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http_server() -> Iterator[str]:
    """The address of a server with another protocol."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()

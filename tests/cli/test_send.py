"""``tofu send``: errors before anything is sent."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.cli.processes import Run, unix


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "file").write_bytes(b"tofu")
    return "file"


def test_no_such_file(tofu_run: Run) -> None:
    ended = tofu_run("send", "none", "tcp://127.0.0.1:1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint == "none: no such file or folder: check the path"


def test_a_folder(tofu_run: Run) -> None:
    ended = tofu_run("send", ".", "tcp://127.0.0.1:1")
    assert ended.code == 1
    assert ended.complaint == ". is not a regular file: give the path of one"


@unix
def test_a_pipe_is_not_waited_for(tofu_run: Run) -> None:
    os.mkfifo("pipe")
    ended = tofu_run("send", "pipe", "tcp://127.0.0.1:1")
    assert ended.code == 1
    assert ended.complaint == "pipe is not a regular file: give the path of one"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can read every file"
)
def test_a_file_that_may_not_be_read(tofu_run: Run, file: str) -> None:
    Path(file).chmod(0)
    ended = tofu_run("send", file, "tcp://127.0.0.1:1")
    assert ended.code == 1
    assert ended.complaint.startswith("file: permission denied")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://name.invalid:7000", "'name.invalid' has no address"),
        ("tcp://*:7000", "is for listening"),
        pytest.param("uds:///none/s", "there is no socket at uds:///none/s", marks=unix),
        pytest.param(f"uds:///{'x' * 200}", "choose a shorter one", marks=unix),
    ],
)
def test_an_address_that_cannot_be_reached(
    tofu_run: Run, file: str, address: str, reason: str
) -> None:
    ended = tofu_run("send", file, address, "--wait", "0.2")
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.complaint


def test_nobody_listens(tofu_run: Run, file: str) -> None:
    with socket.socket() as bound:
        bound.bind(
            ("127.0.0.1", 0)
        )  # bound by this test, so that no other program can listen on it
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        ended = tofu_run("send", file, address, "--wait", "0.2")
    assert (ended.code, ended.out) == (1, "")
    assert "nobody is listening there: start the listener first" in ended.complaint


def test_a_server_that_is_not_tofu(tofu_run: Run, file: str, http_server: str) -> None:
    ended = tofu_run("send", file, http_server)
    assert (ended.code, ended.out) == (1, "")
    assert f"{http_server} did not accept the channel" in ended.complaint

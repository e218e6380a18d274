"""Two processes that the demo starts, and that do not outlive it."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cli.processes import BOUND, Run, Running, Start, signals, spawn
from tofu_aio.cli import children, demo
from tofu_aio.cli.children import Child, premature_exit
from tofu_aio.cli.demo_events import Listening, Progress, parse_event, report

Interrupted: TypeAlias = Callable[[Callable[[list[Child]], None]], list[Child]]

FEW = ["--messages", "100", "--window", "10"]


def rows(out: str) -> dict[str, list[str]]:
    """The table by its first column."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    return {row[0]: row[1:] for row in cells if row}


@pytest.mark.parametrize("loop", ["reactor", "auto"])
def test_the_default_file_over_each_transport(start: Start, tmp_path: Path, loop: str) -> None:
    ended = start("demo", *FEW, "--loop", loop).finish()
    assert (ended.code, ended.err) == (0, "")
    table = rows(ended.out)
    sha256 = hashlib.sha256(demo._DEFAULT_FILE.read_bytes()).hexdigest()
    transports = 2 if demo.HAS_UDS else 1
    assert table["SHA-256, both sides"] == [f"{sha256[:12]}..."] * transports
    assert table["requests"] == ["100"] * transports
    assert table["messages, both ways"] == ["200"] * transports
    assert all(cell.endswith(" MB") for cell in table["peak memory, server"])
    assert all(cell.endswith(" times") for cell in table["reads suspended, client"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_file_of_ones_own(start: Start, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "-file").write_bytes(content)
    ended = start("demo", *FEW, "--pool", "1", "--", "-file").finish()
    assert (ended.code, ended.err) == (0, "")
    assert (
        rows(ended.out)["SHA-256, both sides"][0]
        == f"{hashlib.sha256(content).hexdigest()[:12]}..."
    )


def test_a_system_without_unix_sockets(tofu_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "HAS_UDS", False)
    ended = tofu_run("demo", *FEW)
    assert (ended.code, ended.err) == (0, "")
    assert (
        "Unix socket: skipped, because this Python does not support it on this system" in ended.out
    )


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("none", "none: no such file or folder: check the path"),
        (".", ". is not a regular file: give the path of one"),
    ],
)
def test_a_file_that_cannot_be_sent(tofu_run: Run, file: str, reason: str) -> None:
    ended = tofu_run("demo", file)
    assert (ended.code, ended.out, ended.complaint) == (1, "", reason)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    """Has something done to the demo's processes in the middle of their work."""
    started: list[Child] = []

    def child(*arguments: str) -> Child:
        started.append(Child(*arguments))
        return started[-1]

    def interrupt(do: Callable[[list[Child]], None]) -> list[Child]:
        @contextmanager
        def bars(*_: object) -> Iterator[Callable[[Progress], None]]:
            yield lambda progress: do(started) if progress.answered else None

        monkeypatch.setattr(demo, "Child", child)
        monkeypatch.setattr(demo, "_bars", bars)
        return started

    return interrupt


MANY = ["--messages", "10000000"]


@signals
@pytest.mark.parametrize(("which", "role"), [(0, "server"), (1, "client")])
def test_a_process_that_is_killed(
    tofu_run: Run, interrupted: Interrupted, which: int, role: str
) -> None:
    started = interrupted(lambda children: children[which]._process.kill())
    ended = tofu_run("demo", *MANY)
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint == f"the {role} process was killed by SIGKILL"
    assert all(child._process.returncode is not None for child in started)


def test_ctrl_c(tofu_run: Run, interrupted: Interrupted) -> None:
    started = interrupted(lambda _: signal.raise_signal(signal.SIGINT))
    ended = tofu_run("demo", *MANY)
    assert (ended.code, ended.out, ended.complaint) == (130, "", "interrupted")
    assert len(started) == 2
    assert all(child._process.returncode is not None for child in started)


def test_a_process_that_fails_says_why() -> None:
    with Child("server", "demo-server", "tcp://name.invalid:1") as child:
        assert child.next_event() is None
        assert str(premature_exit(child)).startswith(
            "the server process failed: 'name.invalid' has no address"
        )


def test_who_is_only_told_to_end_is_not_to_blame() -> None:
    work = ["--messages", "1", "--window", "1", "--part-size", "1"]
    with Child("server", "demo-server", "tcp://127.0.0.1:0") as server:
        server.next_event()
        with Child("client", "demo-client", *work, "none", "tcp://127.0.0.1:1") as client:
            assert client.next_event() is None
            assert str(premature_exit(server, client)) == (
                "the client process failed: none: no such file or folder: check the path"
            )


def test_a_process_that_does_not_end_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_GRACE", 0.05)
    with Child("server", "demo-server", "tcp://127.0.0.1:0") as child:
        assert isinstance(child.next_event(), Listening)
        if sys.platform != "win32":
            child._process.send_signal(signal.SIGSTOP)
        child.stop()
    assert child._process.returncode is not None


ORPHANED = """
import os, signal, sys
from tofu_aio.cli.children import Child
child = Child("server", "demo-server", sys.argv[1])
child.next_event()
print(child._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has pidfds")
def test_the_processes_end_with_the_demo_however_that_ends(tmp_path: Path) -> None:
    with spawn("-c", ORPHANED, f"uds://{tmp_path}/s", folder=tmp_path).process as process:
        demo = Running(process)
        orphan = os.pidfd_open(int(demo.line()))
        assert demo.finish().code == -signal.SIGKILL
    assert select.select([orphan], [], [], BOUND)[0]
    os.close(orphan)
    assert not list(tmp_path.iterdir())


def test_what_is_told_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    report(Progress(1, 2))
    report(Listening("tcp://127.0.0.1:1"))
    lines = capsys.readouterr().out.encode().splitlines(keepends=True)
    assert [parse_event(line) for line in lines] == [Progress(1, 2), Listening("tcp://127.0.0.1:1")]

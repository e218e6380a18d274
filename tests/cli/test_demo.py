"""``tofu demo``: two processes, and the table of results."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cli.processes import Run, Start, signals
from tofu_aio.cli import demo
from tofu_aio.cli.children import Child
from tofu_aio.cli.demo_events import Progress

Interrupted: TypeAlias = Callable[[Callable[[list[Child]], None]], list[Child]]


FEW = ["--messages", "100", "--window", "10"]


def rows(out: str) -> dict[str, list[str]]:
    """The cells of the table by the first cell of each row."""
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
    """Calls a function with the demo's processes while they work."""
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

"""The demo's processes: they report why they failed, and end with the demo."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.processes import BOUND, Running, spawn
from tofu_aio.cli import children
from tofu_aio.cli.children import Child, premature_exit
from tofu_aio.cli.demo_events import Listening


def test_a_process_that_fails_says_why() -> None:
    with Child("server", "demo-server", "tcp://name.invalid:1") as child:
        assert child.next_event() is None
        assert str(premature_exit(child)).startswith(
            "the server process failed: 'name.invalid' has no address"
        )


def test_a_process_that_was_only_stopped_is_not_named() -> None:
    work = ["--messages", "1", "--window", "1", "--part-size", "1"]
    with Child("server", "demo-server", "tcp://127.0.0.1:0") as server:
        server.next_event()
        with Child("client", "demo-client", *work, "none", "tcp://127.0.0.1:1") as client:
            assert client.next_event() is None
            assert str(premature_exit(server, client)) == (
                "the client process failed: none: no such file or folder: check the path"
            )


def test_a_process_that_does_not_exit_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_the_processes_end_with_the_demo_even_if_it_is_killed(tmp_path: Path) -> None:
    with spawn("-c", ORPHANED, f"uds://{tmp_path}/s", folder=tmp_path).process as process:
        demo = Running(process)
        orphan = os.pidfd_open(int(demo.line()))
        assert demo.finish().code == -signal.SIGKILL
    assert select.select([orphan], [], [], BOUND)[0]
    os.close(orphan)
    assert not list(tmp_path.iterdir())

"""``tofu send`` and ``tofu receive`` together, as a user runs them."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.processes import Running, Start, signals, spawn, unix

MB = 1_000_000


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("loop", "size"),
    [("reactor", 0), ("asyncio", 1), ("reactor", 5 * MB), ("auto", 5 * MB)],
)
def test_a_file_over_tcp(start: Start, tmp_path: Path, size: int, loop: str) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--loop", loop)
    sent = start("send", "file", receive.listening(), "--loop", loop).finish()
    received = receive.finish()
    assert (sent.code, sent.err, received.code, received.err) == (0, "", 0, "")
    agreed = f"SHA-256 {hashlib.sha256(content).hexdigest()}, the same on both sides"
    assert sent.out.splitlines()[1] == received.out.splitlines()[2] == agreed
    assert (tmp_path / "copy").read_bytes() == content
    assert left_in(tmp_path) == ["copy", "file"]


@unix
def test_a_file_over_a_unix_socket_to_a_receiver_that_comes_later(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"tofu")
    address = f"uds://{tmp_path}/s"
    send = start("send", "file", address, "--wait", "50")
    receive = start("receive", address, "-o", "copy")
    assert send.finish().code == 0
    assert receive.finish().code == 0
    assert (tmp_path / "copy").read_bytes() == b"tofu"
    assert left_in(tmp_path) == ["copy", "file"]


def test_unusual_file_names(start: Start, tmp_path: Path) -> None:
    name = " \u00e4\n\udcff: " if sys.platform == "linux" else "\u00e4 b"
    (tmp_path / name).write_bytes(b"tofu")
    receive = start("receive", "tcp://127.0.0.1:0", "-o", f"{name}2")
    sent = start("send", name, receive.listening()).finish()
    assert (sent.code, sent.err) == (0, "")
    assert receive.finish().code == 0
    assert (tmp_path / f"{name}2").read_bytes() == b"tofu"


@pytest.mark.parametrize("size", [1, MB])
def test_an_echo_server_does_not_pass_for_a_receiver(
    start: Start, tmp_path: Path, size: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    ended = start("send", "file", start("serve", "tcp://127.0.0.1:0").listening()).finish()
    assert (ended.code, ended.out) == (1, "")
    assert (
        ended.complaint == "the peer does not receive files: start 'tofu receive' at that address"
    )


@pytest.fixture
def in_progress(start: Start, tmp_path: Path) -> tuple[Running, Running]:
    """A sender and a receiver in the middle of a file: more is left than the kernel can buffer."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(64 * MB)
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", "--pause", "20")
    send = start("send", "file", receive.listening())
    assert receive.line() == "receiving file: 64.0 MB"
    return send, receive


@signals
def test_the_sender_is_killed(in_progress: tuple[Running, Running], tmp_path: Path) -> None:
    send, receive = in_progress
    send.stop(signal.SIGKILL)
    ended = receive.finish()
    assert ended.code == 1
    assert ended.complaint.startswith("lost the sender after ")
    assert left_in(tmp_path) == ["file"]


@signals
def test_the_receiver_is_killed(in_progress: tuple[Running, Running]) -> None:
    send, receive = in_progress
    receive.stop(signal.SIGKILL)
    ended = send.finish()
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.startswith("lost the receiver (")


@signals
@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [("SIGINT", 130, "interrupted"), ("SIGHUP", 129, "terminated by SIGHUP")],
)
def test_the_sender_is_stopped(
    in_progress: tuple[Running, Running], tmp_path: Path, name: str, code: int, reason: str
) -> None:
    send, receive = in_progress
    stopped = send.stop(signal.Signals[name])
    assert (stopped.code, stopped.out, stopped.complaint) == (code, "", reason)
    ended = receive.finish()
    assert ended.code == 1
    assert ended.complaint.startswith("lost the sender after ")
    assert left_in(tmp_path) == ["file"]


@signals
@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [("SIGINT", 130, "interrupted"), ("SIGHUP", 129, "terminated by SIGHUP")],
)
def test_the_receiver_is_stopped(
    in_progress: tuple[Running, Running], tmp_path: Path, name: str, code: int, reason: str
) -> None:
    send, receive = in_progress
    stopped = receive.stop(signal.Signals[name])
    assert (stopped.code, stopped.complaint) == (code, reason)
    assert left_in(tmp_path) == ["file"]
    ended = send.finish()
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.startswith("lost the receiver (")


@signals
def test_the_receivers_disk_is_full(start: Start, tmp_path: Path) -> None:
    def limit() -> None:
        import resource

        # The limit for the size of a file fails like a full disk: in the middle of a write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (MB, MB))

    (tmp_path / "file").write_bytes(bytes(5 * MB))
    receive = start("receive", "tcp://127.0.0.1:0", "-o", "copy", before=limit)
    sent = start("send", "file", receive.listening()).finish()
    received = receive.finish()
    reason = "the file would exceed the file size limit: see `ulimit -f`"
    assert (received.code, received.complaint) == (1, reason)
    assert (sent.code, sent.complaint) == (1, f"the receiver rejected file: {reason}")
    assert left_in(tmp_path) == ["file"]


MEASURED = """
import sys
from tofu_aio.cli.app import run
from tofu_aio.cli.measuring import peak_memory
code = run(sys.argv[1:])
print(peak_memory(), file=sys.stderr)
sys.exit(code)
"""


def peaks(folder: Path, size: int) -> list[int]:
    """The peak memory of a sender and a slowed receiver of a file of this size."""
    with (folder / "file").open("wb") as file:
        file.truncate(size)
    arguments = ["receive", "tcp://127.0.0.1:0", "-o", "copy", "--force", "--pause", "1"]
    with spawn("-c", MEASURED, *arguments, folder=folder).process as process:
        receive = Running(process)
        with spawn("-c", MEASURED, "send", "file", receive.listening(), folder=folder).process as p:
            ended = [Running(p).finish(), receive.finish()]
    assert [end.code for end in ended] == [0, 0]
    return [int(end.err) for end in ended]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small, large = peaks(tmp_path, MB), peaks(tmp_path, 60 * MB)
    for before, after in zip(small, large, strict=True):
        assert after < before + 20 * MB

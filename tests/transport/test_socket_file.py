"""The file of a Unix socket: its permissions, and that a path never has two listeners."""

# ruff: noqa: ASYNC240 - a test may block

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.messaging.peers import turns
from tofu_aio.transport import socket_file, unix

pytestmark = pytest.mark.skipif(not HAS_UDS, reason="this Python has no Unix sockets here")

LISTENER = """
import asyncio, os, sys
import tofu_aio as tofu
from tofu_aio.transport import unix

async def main(path):
    async with tofu.Engine() as engine, engine.create_group() as group:
        try:
            listener = await group.listen("uds://" + path)
        except tofu.ListenFailed as error:
            return print(error, flush=True)
        print("listening", flush=True)
        sys.stdin.readline()
        await listener.aclose()
        print("closed", flush=True)

if sys.argv[1:] == ["dies in the middle"]:
    unix.remove_if_same = lambda *_: os._exit(0)
for line in sys.stdin:
    tofu.run(main(line.strip()))
"""
"""Listens on the path in each line of input, until the next line, and prints the result."""


@pytest.fixture
def path(socket_path: str) -> Path:
    """A path for a socket. Its folder must be empty in the end."""
    return Path(socket_path)


@pytest.fixture
def stale(path: Path) -> Path:
    """The same, with a stale socket file there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return path


def lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".tofu-lock")


@contextlib.contextmanager
def another_process(*how: str) -> Iterator[Callable[[object], str]]:
    """Sends a line to another process, and returns its answer."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER, *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        requests, answers = process.stdin, process.stdout

        def told(line: object) -> str:
            requests.write(f"{line}\n")
            requests.flush()
            return answers.readline().strip()

        yield told
        with contextlib.suppress(BrokenPipeError):
            requests.close()


# --- who may connect -------------------------------------------------------------------------


@pytest.fixture(params=[0, 0o022, 0o177])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the umask of the process during a test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0])
async def test_the_mode_is_what_was_asked_for_whatever_the_umask(
    group: tofu.ChannelGroup, path: Path, umask: int, mode: int
) -> None:
    async with await group.listen(f"uds://{path}", mode=mode):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    async with await group.listen(f"uds://{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


async def test_nobody_can_connect_before_the_mode_is_set(
    group: tofu.ChannelGroup, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    set_mode = socket_file.set_mode

    def set_late(name: str, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as early:
            with pytest.raises(ConnectionRefusedError):
                early.connect(name)
            refused.append(mode)
        set_mode(name, mode)

    monkeypatch.setattr(unix, "set_mode", set_late)
    async with await group.listen(f"uds://{path}", mode=0o600):
        assert refused == [0o600]


async def test_the_mode_of_no_other_file_is_set(
    group: tofu.ChannelGroup, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may write to the folder puts a link there in the meantime."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    set_mode = socket_file.set_mode

    def set_late(name: str, mode: int) -> None:
        path.unlink()
        path.symlink_to(secret)
        set_mode(name, mode)

    monkeypatch.setattr(unix, "set_mode", set_late)
    with pytest.raises(tofu.ListenFailed):
        await group.listen(f"uds://{path}", mode=0o666)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere lchmod(2) needs no /proc")
async def test_without_proc_a_mode_is_refused_with_the_cause_and_leaves_no_file(
    group: tofu.ChannelGroup, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a chroot where it is not mounted."""
    monkeypatch.setattr(socket_file, "_DESCRIPTORS", str(tmp_path / "proc"))
    with pytest.raises(tofu.ListenFailed, match=r"mode= needs /proc, .*: mount it, or leave"):
        await group.listen(f"uds://{path}", mode=0o600)
    assert not path.exists()
    async with await group.listen(f"uds://{path}"):
        assert path.exists()


class Unheard(socket.socket):
    """A socket that can be bound, but cannot listen."""

    def listen(self, *_: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("mode", [None, 0o600])
async def test_what_fails_after_it_was_bound_leaves_no_file(
    group: tofu.ChannelGroup, path: Path, mode: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", Unheard)
    with pytest.raises(tofu.ListenFailed, match="no memory left for sockets"):
        await group.listen(f"uds://{path}", mode=mode)
    assert not path.exists()


@pytest.mark.parametrize(
    ("mode", "error", "words"),
    [
        (600, ValueError, r"mode is 600, which is 0o1130: give 0 to 0o777, for example 0o600"),
        (-1, ValueError, "mode is -1, which is -0o1: give 0 to 0o777"),
        (True, TypeError, "mode is True, not an integer: give 0 to 0o777"),
        ("600", TypeError, "mode is '600', not an integer"),
    ],
)
async def test_what_is_no_mode_is_refused(
    group: tofu.ChannelGroup, path: Path, mode: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await group.listen(f"uds://{path}", mode=mode)
    assert not path.exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://127.0.0.1:0", "only the file of a Unix socket has a mode"),
        ("uds://@tofu-test", "abstract name has no file, .* every user of this machine"),
    ],
)
async def test_what_has_no_file_has_no_mode(
    group: tofu.ChannelGroup, address: str, words: str
) -> None:
    with pytest.raises(tofu.WrongAddress, match=words):
        await group.listen(address, mode=0o600)


# --- who has the path ------------------------------------------------------------------------


async def test_a_second_listener_is_too_late_while_a_stale_file_is_removed(
    group: tofu.ChannelGroup, stale: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would listen there, and the first would remove its file as a stale one."""
    remove = socket_file.remove_if_same

    def remove_late(path: str, identity: os.stat_result) -> None:
        monkeypatch.setattr(unix, "remove_if_same", remove)
        with another_process() as told:
            answers.append(told(stale))
        remove(path, identity)

    answers: list[str] = []
    monkeypatch.setattr(unix, "remove_if_same", remove_late)
    async with await group.listen(f"uds://{stale}") as listener:
        assert answers[0].startswith(f"cannot listen on uds://{stale}: another process is about")
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(listener.accept())
            channel = await group.connect(listener.address)
        await asyncio.gather(channel.aclose(), accepting.result().aclose())


def test_of_many_that_find_a_stale_file_one_listens(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(another_process()) for _ in range(4)]
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))
            with ThreadPoolExecutor() as pool:
                answers = list(pool.map(lambda told: told(path), processes))
            assert answers.count("listening") == 1, answers
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            assert processes[answers.index("listening")]("close") == "closed"
            assert not path.exists()


async def test_the_lock_of_a_dead_process_blocks_nothing(
    group: tofu.ChannelGroup, stale: Path
) -> None:
    with another_process("dies in the middle") as told:
        assert not told(stale)
    assert stale.exists()
    assert lock_of(stale).exists()
    async with await group.listen(f"uds://{stale}"):
        assert not lock_of(stale).exists()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another listener holds the lock."""
    import fcntl

    lock = lock_of(path)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink()


async def test_a_lock_that_is_held_is_not_removed(group: tofu.ChannelGroup, stale: Path) -> None:
    with locked(stale):
        with pytest.raises(tofu.ListenFailed, match="another process is about to listen") as caught:
            await group.listen(f"uds://{stale}")
        assert caught.value.errno == errno.EAGAIN
        assert stale.exists()
        assert lock_of(stale).exists()
    stale.unlink()


async def test_a_path_that_is_free_in_a_moment_is_waited_for(
    group: tofu.ChannelGroup, path: Path
) -> None:
    with locked(path):
        listening = asyncio.create_task(group.listen(f"uds://{path}"))
        await turns(3)
        assert not listening.done()
    async with await listening:
        assert path.is_socket()


async def test_a_lock_that_was_removed_as_it_was_opened_is_none(
    group: tofu.ChannelGroup, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder has removed it, and the next one may have another lock file by now."""
    opened = []
    lock = socket_file._lock

    def lock_late(file: int) -> None:
        if not opened:
            lock_of(path).unlink()
        opened.append(file)
        lock(file)

    monkeypatch.setattr(socket_file, "_lock", lock_late)
    async with await group.listen(f"uds://{path}"):
        assert len(opened) == 2


@pytest.mark.parametrize("kind", ["a file with something in it", "a pipe", "a link"])
async def test_what_is_no_lock_is_left_alone(
    group: tofu.ChannelGroup, path: Path, tmp_path: Path, kind: str
) -> None:
    lock = lock_of(path)
    if kind == "a pipe":
        os.mkfifo(lock)
    elif kind == "a link":
        lock.symlink_to(tmp_path / "other")
    else:
        lock.write_text("somebody's")
    with pytest.raises(tofu.ListenFailed):
        await group.listen(f"uds://{path}")
    assert not path.exists()
    assert not (tmp_path / "other").exists()
    if kind == "a file with something in it":
        assert lock.read_text() == "somebody's"
    lock.unlink()


async def test_another_user_s_lock_is_called_by_its_name(
    group: tofu.ChannelGroup, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_of(path).touch()
    really_open = os.open

    def refused(name: Any, *args: Any, **options: Any) -> int:
        if str(name) == str(lock_of(path)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(tofu.ListenFailed, match=r"s\.tofu-lock is the lock file of another"):
            await group.listen(f"uds://{path}")
        lock_of(path).unlink()
        with pytest.raises(tofu.ListenFailed, match=r"permission denied: .* you may write to"):
            await group.listen(f"uds://{path}")


@pytest.fixture
def far_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder whose absolute path is too long for the system."""
    monkeypatch.chdir(tmp_path)
    names = ["d" * 200] * (os.pathconf("/", "PC_PATH_MAX") // 200 + 1)
    for name in names:
        Path(name).mkdir()
        os.chdir(name)
    yield
    for name in names:
        os.chdir("..")
        Path(name).rmdir()


@pytest.mark.usefixtures("far_down")
def test_a_relative_path_is_locked_where_no_absolute_one_leads() -> None:
    """A service may lack the permission to search the parent folders."""
    with socket_file.locked_path(tofu.UdsAddress("./s")):
        assert list(Path().iterdir()) == [Path("s.tofu-lock")]
    assert not list(Path().iterdir())


async def test_while_it_listens_its_file_s_number_is_its_own(
    group: tofu.ChannelGroup, path: Path
) -> None:
    """So the file that it removes when it closes is always its own."""
    async with await group.listen(f"uds://{path}"):
        number = path.stat().st_ino
        for _ in range(50):
            path.unlink()
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(path))
            assert path.stat().st_ino != number
    assert path.exists()
    path.unlink()

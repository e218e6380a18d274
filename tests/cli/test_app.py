"""All commands: help, exit codes, one line for each error, and the optional extra."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import tofu_aio
from tests.cli.processes import Run, Start, signals, spawn
from tofu_aio.cli.app import tofu

SHOWN = [name for name, command in tofu.commands.items() if not command.hidden]


def test_without_a_command_there_is_help(tofu_run: Run) -> None:
    code, out, err = tofu_run()
    assert code == 2
    assert out == tofu_run("--help").out
    assert not err


def test_help_lists_the_commands_and_the_exit_codes(tofu_run: Run) -> None:
    code, out, _ = tofu_run("--help")
    assert code == 0
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()]
    assert (
        listed
        == SHOWN
        == ["demo", "serve", "ping", "request", "top", "receive", "send", "decode", "doctor"]
    )
    assert "130" in out


@pytest.mark.parametrize("name", SHOWN)
def test_each_help_is_worth_reading(tofu_run: Run, name: str) -> None:
    code, out, _ = tofu_run(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: tofu {name} [OPTIONS]")
    assert "exit code" in out.lower()
    assert name == "doctor" or "Examples:" in out
    assert max(map(len, out.splitlines())) <= 100


def test_each_short_help_fits_on_its_line(tofu_run: Run) -> None:
    assert "..." not in tofu_run("--help").out.partition("Commands:")[2]


def test_version(tofu_run: Run) -> None:
    code, out, _ = tofu_run("--version")
    assert code == 0
    assert out.startswith(f"tofu {tofu_aio.__version__} ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "No such command 'nonsense'. Try 'tofu --help'."),
        (["--nonsense"], "No such option '--nonsense'. Try 'tofu --help'."),
        (["ping"], "Missing argument 'ADDRESS'. Try 'tofu ping --help'."),
        (["serve", "x://y"], "Invalid value for 'ADDRESS': 'x://y' is not an address: use tcp://"),
        (["ping", "tcp://h:1", "--size", "65536"], "Invalid value for '--size'"),
        (["receive", "tcp://h:1"], "Missing option '--output'"),
        (["serve", "tcp://h:1", "--loop", "trio"], "Invalid value for '--loop': 'trio' is not"),
    ],
)
def test_wrong_usage_is_exit_code_2(tofu_run: Run, arguments: list[str], complaint: str) -> None:
    ended = tofu_run(*arguments)
    assert ended.code == 2
    assert not ended.out
    assert ended.complaint.startswith(complaint)
    assert ended.complaint.endswith("--help'.")


def test_a_loop_that_is_not_installed(tofu_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    ended = tofu_run("ping", "tcp://127.0.0.1:1", "--loop", "uvloop")
    assert ended.code == 1
    assert 'pip install "tofu-aio[fast]"' in ended.complaint


def test_text_from_a_peer_or_a_path_cannot_control_the_terminal(tofu_run: Run) -> None:
    ended = tofu_run("decode", "no\x1b[31m such\nfile")
    assert ended.code == 1
    assert ended.complaint.isprintable()


def test_the_library_does_not_import_the_extra(tmp_path: Path) -> None:
    code = "import sys, tofu_aio; print(*{'click', 'rich'} & set(sys.modules))"
    assert spawn("-c", code, folder=tmp_path).finish() == (0, "\n", "")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path: Path, missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import tofu_aio.__main__ as m; m.main()"
    ended = spawn("-c", code, folder=tmp_path).finish()
    assert ended.code == 1
    assert missing in ended.complaint
    assert "pip install 'tofu-aio[cli]'" in ended.complaint


def test_a_bug_is_not_taken_for_a_missing_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['hashlib'] = None; import tofu_aio.__main__ as m; m.main()"
    ended = spawn("-c", code, folder=tmp_path).finish()
    assert ended.code == 1
    assert "hashlib" in ended.err
    assert "tofu-aio[cli]" not in ended.err


@signals
def test_nobody_reads_the_output(start: Start) -> None:
    receive, out = os.pipe()
    os.close(receive)
    ended = start("doctor", before=lambda: os.dup2(out, 1) and None).finish()
    os.close(out)
    assert (ended.code, ended.err) == (1, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
def test_the_output_is_full(start: Start) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    ended = start("doctor", before=lambda: os.dup2(full, 1) and None).finish()
    os.close(full)
    assert ended.code == 1
    assert "the disk is full" in ended.complaint


@signals
@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_standard_stream_that_is_closed(start: Start, stream: int) -> None:
    assert start("doctor", before=lambda: os.close(stream)).finish().code == 0

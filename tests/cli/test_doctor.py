"""``tofu doctor``: what this machine supports, and tests of it."""

from __future__ import annotations

import sys

import pytest

import tofu_aio as tofu
from tests.cli.processes import Run, Start
from tofu_aio.cli import doctor
from tofu_aio.core.choosing import NOT_INSTALLED, PURE_IS_SET


def test_all_is_good_here(start: Start) -> None:
    ended = start("doctor").finish()
    assert (ended.code, ended.err) == (0, "")
    assert "FAILED" not in ended.out
    findings = ended.out.splitlines()
    assert findings[0].startswith(f"tofu_aio        {tofu.__version__}, in ")
    for name in ("Python", "core", "anyio", "TLS", "poller", "Unix sockets", "loop reactor"):
        assert any(line.startswith(name) for line in findings), name


@pytest.mark.parametrize(
    ("why_plain", "line", "code"),
    [
        ("", "compiled", 0),
        (PURE_IS_SET, "plain Python: TOFU_AIO_PURE is set", 0),
        (NOT_INSTALLED, "plain Python: no compiled core is installed", 0),
        ("it does not load", "FAILED: plain Python: it does not load", 1),
    ],
)
def test_which_core_runs_and_why(
    why_plain: str, line: str, code: int, tofu_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "WHY_PLAIN", why_plain)
    monkeypatch.setattr(doctor, "_loops", list)
    ended = tofu_run("doctor")
    assert f"core {line} system" in " ".join(ended.out.split())
    assert ended.code == code


def test_a_loop_that_does_not_work(tofu_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_addresses", lambda _: {"TCP": "tcp://192.0.2.1:1"})
    ended = tofu_run("doctor")
    assert (ended.code, ended.err) == (1, "")
    assert "FAILED: TCP: cannot listen on tcp://192.0.2.1:1" in " ".join(ended.out.split())


def test_a_loop_that_is_not_installed(tofu_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    ended = tofu_run("doctor")
    assert ended.code == 0
    cure = "pip install 'tofu-aio[fast]'"
    here, elsewhere = ("winloop", "uvloop") if sys.platform == "win32" else ("uvloop", "winloop")
    lines = ended.out.splitlines()
    assert any(line.startswith(f"loop {here}") and cure in line for line in lines)
    assert any(
        line.startswith(f"loop {elsewhere}") and "not available for this system" in line
        for line in lines
    )


def test_a_system_without_a_poller(tofu_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(doctor, "default_poller", none)
    ended = tofu_run("doctor")
    assert ended.code == 1
    assert "FAILED: this process has too many open files" in ended.out

"""Running a coroutine until it is done or told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from tests.cli.processes import signals
from tofu_aio.cli.errors import Failure
from tofu_aio.cli.running import Terminated, run

LOOPS = ["reactor", "asyncio"]
if sys.platform != "win32":
    LOOPS.append("uvloop")


async def told(number: int) -> None:
    """Be told to stop, and take a turn to clean up."""
    signal.raise_signal(number)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)


async def done() -> str:
    return "done"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    name: str = request.param
    return name


def test_the_result_comes_back(loop: str) -> None:
    assert run(done(), loop) == "done"


@signals
def test_ctrl_c(loop: str) -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        run(told(signal.SIGINT), loop)
    assert raised.type is KeyboardInterrupt


@signals
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_that_end_a_process(loop: str, name: str) -> None:
    number = signal.Signals[name]
    with pytest.raises(Terminated) as raised:
        run(told(number), loop)
    assert raised.value.args == (number,)
    assert signal.getsignal(number) is signal.SIG_DFL


@signals
def test_a_signal_that_is_ignored_stays_so(loop: str) -> None:
    async def ignoring() -> str:
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(0)
        return "done"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(ignoring(), loop) == "done"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_loop_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(Failure, match="tofu-aio"):
        run(done(), "uvloop")

"""Running a coroutine until it is done or a signal stops it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

import pytest

from tests.cli.processes import signals
from tofu_aio.cli.errors import Failure
from tofu_aio.cli.running import Terminated, run

LOOPS = ["reactor", "asyncio"]
if sys.platform != "win32":
    LOOPS.append("uvloop")


async def raises_signal(number: int) -> None:
    """Raise the signal, and take a turn of the loop to clean up."""
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
        run(raises_signal(signal.SIGINT), loop)
    assert raised.type is KeyboardInterrupt


@signals
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_that_stop_a_process(loop: str, name: str) -> None:
    number = signal.Signals[name]
    with pytest.raises(Terminated) as raised:
        run(raises_signal(number), loop)
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


def interrupts_the_runner(test: Callable[..., None]) -> Callable[..., None]:
    """Ignore the coroutine that the runner does not begin if its own clean-up is interrupted."""
    for ignored in ("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine"):
        test = pytest.mark.filterwarnings(ignored)(test)
    return test


async def takes_its_time() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)


class SecondSignal:
    """Sends a second Ctrl-C at the n-th function call after the first one."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def __call__(self, _frame: object, event: str, _: object) -> None:
        if event in {"call", "c_return"}:
            self.calls += 1
            if self.calls == self.at:
                signal.raise_signal(signal.SIGINT)


@signals
@interrupts_the_runner
def test_a_second_ctrl_c_ends_it_wherever_it_comes(loop: str) -> None:
    """For example between removing a callback from the queue and calling it."""

    async def interrupted(second: SecondSignal) -> None:
        asyncio.get_running_loop().call_soon(begin, second)
        await takes_its_time()

    def begin(second: SecondSignal) -> None:
        sys.setprofile(second)
        signal.raise_signal(signal.SIGINT)

    def run_interrupted(second: SecondSignal) -> None:
        try:
            run(interrupted(second), loop)
        finally:
            sys.setprofile(None)  # a second signal that comes late would end the test run

    def twice(at: int) -> int:
        second = SecondSignal(at)
        with pytest.raises(KeyboardInterrupt):
            run_interrupted(second)
        return second.calls

    calls = twice(0)
    for at in range(1, calls):
        twice(at)


@signals
@interrupts_the_runner
def test_a_third_ctrl_c_ends_a_program_that_blocks_the_loop() -> None:
    async def stuck() -> None:
        for _ in iter(int, 1):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(stuck(), "reactor")

"""Running a command's coroutine on the loop that the user chose, until done or told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Final, TypeVar

import click

from ..reactor import loop_factory
from .errors import Failure

T = TypeVar("T")

LOOPS: Final = ("reactor", "asyncio", "uvloop", "winloop", "auto")

loop_option = click.option(
    "--loop",
    type=click.Choice(LOOPS),
    default="reactor",
    show_default=True,
    metavar="NAME",
    help=f"The event loop: {', '.join(LOOPS[:-1])}, or auto, the fastest that is installed.",
)


# The signals that ask a process to end, besides that of Ctrl-C.
if sys.platform == "win32":
    _ENDING: Final[tuple[signal.Signals, ...]] = ()
else:
    _ENDING: Final[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's. Its argument is the number."""


def run(main: Coroutine[object, object, T], loop: str) -> T:
    """Run a coroutine and return its result.

    Args:
        main: it is cancelled when the process is asked to end.
        loop: a name that ``loop_factory`` knows.

    Raises:
        KeyboardInterrupt: Ctrl-C, after ``main`` has ended.
        Terminated: SIGTERM or SIGHUP, likewise.
        Failure: the loop is not installed.
    """
    try:
        factory = loop_factory(loop)
    except ImportError as error:
        main.close()
        raise Failure(str(error)) from error
    received: list[int] = []
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_stoppable(main, received))
    except asyncio.CancelledError:
        raise Terminated(*(received or [signal.SIGTERM])) from None


async def _stoppable(main: Coroutine[object, object, T], received: list[int]) -> T:
    """Do as on Ctrl-C, which the runner handles, when a supervisor or the terminal says so.

    By default these signals kill on the spot, and would leave socket files and partial files.
    """
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    # One that is ignored is meant to be: nohup(1) does that.
    handled = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in handled:
        loop.add_signal_handler(number, stop, number)
    try:
        return await main
    finally:
        for number in handled:  # uvloop would leave its own behind
            loop.remove_signal_handler(number)

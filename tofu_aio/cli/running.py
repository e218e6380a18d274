"""Running a command's coroutine on the loop that the user chose, until done or told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
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


# The signals that ask a process to end.
if sys.platform == "win32":
    _ENDING: Final[tuple[signal.Signals, ...]] = (signal.SIGINT,)
else:
    _ENDING: Final[tuple[signal.Signals, ...]] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PATIENT: Final = 2
"""Signals that wait for the loop."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's. Its argument is the number."""


def run(main: Coroutine[object, object, T], loop: str) -> T:
    """Run a coroutine and return its result.

    A first signal cancels it, and it may take its time to end in order. A second one ends that. A
    third one ends the process wherever it is, should the loop be stuck.

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
    stopping = _Stopping()
    try:
        with stopping.handled(), asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(stopping.watched(main))
    except (asyncio.CancelledError, KeyboardInterrupt):
        first = stopping.received[0] if stopping.received else signal.SIGINT
        raise (KeyboardInterrupt if first == signal.SIGINT else Terminated(first)) from None


class _Stopping:
    """What signals do to a coroutine.

    ``asyncio.Runner`` raises KeyboardInterrupt at the second Ctrl-C, wherever the program is: in
    the loop, say, between taking a callback from the queue and calling it. Then the task that it
    would have woken never ends, and closing the runner waits for that. So here the exception is
    raised by a callback of its own.

    Attributes:
        received: the numbers of the signals that have come.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self._stops = 0

    async def watched(self, main: Coroutine[object, object, T]) -> T:
        """Do as it does, until it is cancelled."""
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        return await main

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals.

        By default all but that of Ctrl-C kill on the spot, and would leave socket files and partial
        files. One that is ignored is meant to be: nohup(1) does that.
        """
        defaults = signal.SIG_DFL, signal.default_int_handler
        before = {number: signal.getsignal(number) for number in _ENDING}
        handled = [number for number, handler in before.items() if handler in defaults]
        for number in handled:
            signal.signal(number, self._came)
        try:
            yield
        finally:
            for number in handled:
                signal.signal(number, before[number])

    def _came(self, number: int, _: object) -> None:
        """Between any two steps of the program."""
        self.received.append(number)
        if self._loop is None or len(self.received) > _PATIENT:
            raise KeyboardInterrupt
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to end
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        """In the loop."""
        assert self._task is not None
        self._stops += 1
        if self._stops > 1:
            raise KeyboardInterrupt
        self._task.cancel()

"""Running a command's coroutine on the chosen loop, until it is done or a signal stops it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, TypeAlias, TypeVar

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
    help=f"The event loop: {', '.join(LOOPS[:-1])}, or auto for the fastest one installed.",
)

# The signals that ask a process to exit.
if sys.platform == "win32":
    _STOP_SIGNALS: Final[tuple[signal.Signals, ...]] = (signal.SIGINT,)
else:
    _STOP_SIGNALS: Final[tuple[signal.Signals, ...]] = (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    )

_HANDLED_IN_LOOP: Final = 2
"""Signals that are handled in the loop; further ones interrupt the program wherever it is."""


class Terminated(KeyboardInterrupt):
    """A signal other than SIGINT asked the process to exit. The argument is the signal's number."""


def run(main: Coroutine[object, object, T], loop: str) -> T:
    """Run a coroutine and return its result.

    The first signal cancels the coroutine, which may take its time to clean up. The second one
    interrupts the clean-up. The third one raises wherever the program is, in case the loop hangs.

    Args:
        main: the coroutine.
        loop: a name that ``loop_factory`` knows.

    Raises:
        KeyboardInterrupt: on SIGINT (Ctrl-C), after ``main`` has ended.
        Terminated: on SIGTERM or SIGHUP, after ``main`` has ended.
        Failure: the loop is not installed.
    """
    try:
        factory = loop_factory(loop)
    except ImportError as error:
        main.close()
        raise Failure(str(error)) from error
    signals = _StopSignals()
    try:
        with signals.handled(), asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(signals.run_main(main))
    except (asyncio.CancelledError, KeyboardInterrupt):
        first = signals.received[0] if signals.received else signal.SIGINT
        raise (KeyboardInterrupt if first == signal.SIGINT else Terminated(first)) from None


_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class _StopSignals:
    """Handlers that make signals cancel a coroutine.

    ``asyncio.Runner`` raises KeyboardInterrupt at the second Ctrl-C wherever the program is, for
    example in the loop, between removing a callback from the queue and calling it. Then the task
    that the callback would have woken never ends, and closing the runner waits for it without end.
    So these handlers raise the exception in a callback of its own.

    Attributes:
        received: the numbers of the signals received so far.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancellations = 0
        self._before: dict[signal.Signals, _Handler] = {}

    async def run_main(self, main: Coroutine[object, object, T]) -> T:
        """Await the coroutine in the task that the signals cancel."""
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        return await main

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Install the handlers during the block.

        By default, signals other than SIGINT end the process at once, which would leave socket
        files and temporary files behind. A signal that is ignored stays ignored: nohup(1) relies on
        that.
        """
        defaults = signal.SIG_DFL, signal.default_int_handler
        for number in _STOP_SIGNALS:
            handler = signal.getsignal(number)
            if handler in defaults:
                self._before[number] = handler
                signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        """Put the earlier handlers back, that of SIGINT last: from then on it may raise here."""
        for number in reversed(_STOP_SIGNALS):
            if number in self._before:
                signal.signal(number, self._before[number])

    def _on_signal(self, number: int, _: object) -> None:
        """Runs between any two steps of the program."""
        self.received.append(number)
        if self._loop is None or len(self.received) > _HANDLED_IN_LOOP:
            self._restore()  # here, because this may interrupt whatever would do it later
            raise KeyboardInterrupt
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to cancel
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        """Runs in the loop."""
        assert self._task is not None
        self._cancellations += 1
        if self._cancellations > 1:
            raise KeyboardInterrupt
        self._task.cancel()

"""The signals that ask a service to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_listening: Final[list[Callable[[], object]]] = []
"""What each service of this process does on a signal."""

_before: Final[dict[signal.Signals, object]] = {}
"""The handlers that were there before the first service."""


@contextmanager
def handled(on_signal: Callable[[], None]) -> Iterator[None]:
    """Call a function in the running loop for each SIGINT and SIGTERM during the block.

    Several services may do so at a time. A signal that has a handler already is left alone: the
    handler belongs to a framework, which then has its own way to stop. Outside of the main thread,
    where Python allows no handlers, nothing is handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    notify = partial(asyncio.get_running_loop().call_soon_threadsafe, on_signal)
    if not _listening:
        _install()
    _listening.append(notify)
    try:
        yield
    finally:
        _listening.remove(notify)
        if not _listening:
            _restore()


def _install() -> None:
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if _is_default(handler):
            _before[number] = handler
            signal.signal(number, _handle)


def _restore() -> None:
    for number, handler in _before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]  # getsignal has returned it
    _before.clear()


def _handle(_: int, __: object) -> None:
    for notify in _listening:
        notify()


def _is_default(handler: object) -> bool:
    """Whether it is Python's own handler, or the one that ``asyncio.run`` installs for SIGINT."""
    if handler in {signal.SIG_DFL, signal.default_int_handler}:
        return True
    return isinstance(handler, partial) and isinstance(
        getattr(handler.func, "__self__", None), asyncio.Runner
    )

"""Making loops: ours, and any other one by name."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from typing import TypeAlias, TypeVar

from tofu_aio.reactor.loop import Loop

T = TypeVar("T")

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def new_event_loop() -> Loop:
    """Return a new reactor loop, for `asyncio.run(..., loop_factory=tofu_aio.new_event_loop)`.

    Raises:
        OSError: No descriptor to spare for it (EMFILE).
    """
    return Loop()


def run(main: Coroutine[object, object, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new reactor loop and return its result, as `asyncio.run` does.

    Args:
        main: The coroutine.
        debug: asyncio's debug mode; None leaves it to `PYTHONASYNCIODEBUG`.

    Raises:
        RuntimeError: A loop runs in this thread already.
        ValueError: It is not a coroutine (TypeError from Python 3.14).
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        # Before there is a runner: one that may not run cannot close its loop either.
        raise RuntimeError("run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def loop_factory(name: str) -> LoopFactory:
    """Return the factory of the loop called `name`.

    Args:
        name: "reactor" (this package's), "asyncio" (the interpreter's default), "uvloop" or
            "winloop" (where installed), or "auto": the fastest that is installed.

    Raises:
        ValueError: No loop is called that.
        ImportError: It is known but cannot be imported; the message says what to do about it.
    """
    if name == "auto":
        return _fastest()
    if name in _FOREIGN:
        return _foreign(name)
    if name in _OWN:
        return _OWN[name]
    known = ", ".join(map(repr, (*_OWN, *_FOREIGN, "auto")))
    raise ValueError(f"no event loop is called {name!r}; there are {known}")


_OWN: dict[str, LoopFactory] = {"reactor": new_event_loop, "asyncio": asyncio.new_event_loop}

# Each with the systems it is for.
_FOREIGN = {"uvloop": "Linux and macOS", "winloop": "Windows"}


def _foreign(name: str) -> LoopFactory:
    try:
        factory: LoopFactory = importlib.import_module(name).new_event_loop
    except ImportError as error:
        raise ImportError(
            f"the event loop {name!r} cannot be imported ({error}); it is for {_FOREIGN[name]} and"
            f' comes with: pip install "tofu-aio[fast]". The loop "reactor" needs nothing more.',
            name=name,
        ) from error
    return factory


def _fastest() -> LoopFactory:
    for name in _FOREIGN:
        try:
            return _foreign(name)
        except ImportError:
            continue
    return new_event_loop

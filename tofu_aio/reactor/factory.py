"""Making event loops: the reactor, or any other one by name."""

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
        OSError: There are no free descriptors for it (EMFILE).
    """
    return Loop()


def run(main: Coroutine[object, object, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new reactor loop and return its result, as `asyncio.run` does.

    Args:
        main: The coroutine.
        debug: Whether asyncio's debug mode is on; None leaves that to `PYTHONASYNCIODEBUG`.

    Raises:
        RuntimeError: A loop is running in this thread already.
        ValueError: `main` is not a coroutine (TypeError from Python 3.14).
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        # Before the runner is made, because one that is not allowed to run cannot close its loop.
        raise RuntimeError("run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def loop_factory(name: str) -> LoopFactory:
    """Return a function that makes loops of the kind called `name`.

    Args:
        name: "reactor" (the loop of this package), "asyncio" (the default loop of the interpreter),
            "uvloop" or "winloop" (if installed), or "auto" for the fastest one that is installed.

    Raises:
        ValueError: There is no loop of this name.
        ImportError: The loop is known but cannot be imported; the message says how to install it.
    """
    if name == "auto":
        return _fastest()
    if name in _FOREIGN:
        return _foreign(name)
    if name in _OWN:
        return _OWN[name]
    known = ", ".join(map(repr, (*_OWN, *_FOREIGN, "auto")))
    raise ValueError(f"{name!r} is not the name of an event loop: use one of {known}")


_OWN: dict[str, LoopFactory] = {"reactor": new_event_loop, "asyncio": asyncio.new_event_loop}

# With the systems that each of them supports.
_FOREIGN = {"uvloop": "Linux and macOS", "winloop": "Windows"}


def _foreign(name: str) -> LoopFactory:
    try:
        factory: LoopFactory = importlib.import_module(name).new_event_loop
    except ImportError as error:
        raise ImportError(
            f"the event loop {name!r} cannot be imported ({error}): it runs on {_FOREIGN[name]};"
            f' install it with pip install "tofu-aio[fast]", or use "reactor", which is built in',
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

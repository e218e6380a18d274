"""The reactor: an asyncio event loop. It knows descriptors, but no messages."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tofu_aio.reactor.factory import LoopFactory, loop_factory, new_event_loop, run
from tofu_aio.reactor.loop import Loop
from tofu_aio.reactor.selector import ReactorSelector

if TYPE_CHECKING:
    from tofu_aio.reactor.policy import EventLoopPolicy as EventLoopPolicy
    from tofu_aio.reactor.policy import install as install

# Without the lazy names, so that a star import does not import them.
__all__ = [
    "Loop",
    "LoopFactory",
    "ReactorSelector",
    "loop_factory",
    "new_event_loop",
    "run",
]

_LAZY = ("EventLoopPolicy", "install")


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        policy = importlib.import_module("tofu_aio.reactor.policy")
    except AttributeError as error:
        raise AttributeError(
            f"{name} needs event-loop policies, which asyncio has no longer in this Python: use"
            " asyncio.run(main(), loop_factory=tofu_aio.new_event_loop) or tofu_aio.run(main())"
        ) from error
    value: object = getattr(policy, name)
    return value

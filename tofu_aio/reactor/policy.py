"""The event-loop policy, for programs that still choose their loop by one.

Imported only when asked for: asyncio deprecates policies in Python 3.14, warning at the mere
mention of one, and has none from 3.16.
"""

from __future__ import annotations

import asyncio

from tofu_aio.reactor.loop import Loop


# From asyncio's own default, not the abstract one: Python 3.11 asks it for child watchers.
class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's default policy, except that the loops it makes are reactor loops."""

    def new_event_loop(self) -> Loop:
        """Return a new reactor loop."""
        return Loop()


def install() -> None:
    """Make reactor loops the default of every `asyncio.run` and `asyncio.new_event_loop`."""
    asyncio.set_event_loop_policy(EventLoopPolicy())

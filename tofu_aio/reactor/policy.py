"""The event-loop policy, for programs that still choose their loop with one.

This module is only imported when it is needed. Python 3.14 deprecates policies, and warns as soon
as one is mentioned; Python 3.16 has none.
"""

from __future__ import annotations

import asyncio

from tofu_aio.reactor.loop import Loop


# Derived from the default policy, not from the abstract one: Python 3.11 needs child watchers.
class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's default policy, except that the loops it makes are reactor loops."""

    def new_event_loop(self) -> Loop:
        """Return a new reactor loop."""
        return Loop()


def install() -> None:
    """Make reactor loops the default of every `asyncio.run` and `asyncio.new_event_loop`."""
    asyncio.set_event_loop_policy(EventLoopPolicy())

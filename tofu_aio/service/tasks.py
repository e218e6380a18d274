"""Tasks that run up to their first wait at once, where asyncio has them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import TypeAlias

Running: TypeAlias = Coroutine[object, object, None]

if sys.version_info >= (3, 12):

    def new_task(running: Running, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Run a call up to its first wait, and the rest in a task.

        Most handlers end without waiting, and need no turn of the loop.
        """
        return asyncio.Task(running, loop=loop, eager_start=True)

else:

    def new_task(running: Running, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Run a call in a task."""
        return loop.create_task(running)

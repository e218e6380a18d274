"""Streamed requests whose items come from the thread that makes the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Final, TypeVar, cast

from .calls import AsyncFunction
from .loop_thread import LoopThread

T = TypeVar("T")

_END: Final = object()
"""Stands for the end of the items."""


class Feeding:
    """Hands the items of an iterable to a coroutine in the loop, whenever it asks for one.

    The iterable is iterated in the calling thread, while that waits for the coroutine. So it may
    block, and use what belongs to the thread, such as a database connection; Ctrl-C interrupts it;
    and it is not ahead of the receiver.

    Args:
        thread: runs the loop.
        parts: the items.
    """

    def __init__(self, thread: LoopThread, parts: Iterable[object]) -> None:
        self._thread = thread
        self._parts = iter(parts)
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[object] | None = None
        self._task: asyncio.Task[object] | None = None

    def run(self, function: AsyncFunction[T]) -> T:
        """Run a coroutine function in the loop, and return its result. May be called again.

        Raises:
            Exception: that of the function, or of the iterable.
        """
        try:
            done = self._thread.run(partial(self._begin, function))
            while done is None:
                item = next(self._parts, _END)
                done = self._thread.run(partial(self._continue, item))
        except BaseException:
            self._thread.run_closing(self._cancel)
            raise
        return cast("tuple[T]", done)[0]

    # --- in the loop ----------------------------------------------------------------------

    async def items(self) -> AsyncGenerator[object]:
        """The items, for the coroutine."""
        while True:
            self._answer = asyncio.get_running_loop().create_future()
            self._asked.set()
            item = await self._answer
            if item is _END:
                return
            yield item

    async def _begin(self, function: AsyncFunction[object]) -> tuple[object] | None:
        self._task = asyncio.create_task(function())
        self._task.add_done_callback(_ignore)
        return await self._progress(self._task)

    async def _continue(self, item: object) -> tuple[object] | None:
        self._asked.clear()
        assert self._answer is not None
        assert self._task is not None
        if not self._answer.done():  # the coroutine may have ended meanwhile
            self._answer.set_result(item)
        return await self._progress(self._task)

    async def _progress(self, task: asyncio.Task[object]) -> tuple[object] | None:
        """Wait for the end of the coroutine, or until it asks for an item; that is None."""
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        return (task.result(),) if task.done() else None

    async def _cancel(self) -> None:
        """Cancel the coroutine, and wait until it has ended."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})


def _ignore(task: asyncio.Task[object]) -> None:
    """Do not let asyncio report an error that nobody asks for, because the items have failed."""
    if not task.cancelled():
        task.exception()

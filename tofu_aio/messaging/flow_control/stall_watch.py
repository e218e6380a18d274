"""Noticing that nobody gives permits back while channels wait for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from .. import limits
from ..threads.owner_loop import OwnerLoop

if TYPE_CHECKING:
    from asyncio import TimerHandle


class StallWatch:
    """Tells once of each wait that is long, and of all that have become long by then together.

    So it tells at most once in so many seconds, however many channels wait. It costs one timer,
    which runs while channels wait; none of them has one of its own.

    Args:
        home: where the time comes from.
        since: since when each has waited that waits now, and was not served.
        accuse: told for how many seconds.
    """

    def __init__(
        self,
        owner_loop: OwnerLoop,
        since: Callable[[], Collection[float]],
        accuse: Callable[[float], None],
    ) -> None:
        self._owner_loop = owner_loop
        self._since = since
        self._accuse = accuse
        self._timer: TimerHandle | None = None
        self._told_of = -math.inf  # all waits that began by then

    def begin(self) -> None:
        """A channel waits."""
        if self._timer is None:
            self._again(limits.HELD_TOO_LONG)

    def stop(self) -> None:
        """None will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, seconds: float) -> None:
        self._timer = self._owner_loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        waits = self._since()
        if not waits:
            return
        now = self._owner_loop.time()
        # Of one that lasts, a deaf client's say, was told: the next one counts as well.
        stalled = now - min((since for since in waits if since > self._told_of), default=now)
        if 0 < stalled < limits.HELD_TOO_LONG:
            self._again(limits.HELD_TOO_LONG - stalled)
            return
        if stalled:
            self._told_of = now - limits.HELD_TOO_LONG
            self._accuse(stalled)
        self._again(limits.HELD_TOO_LONG)

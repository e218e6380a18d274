"""Noticing that no permits come back while channels wait for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from .. import limits
from ..threads.owner_loop import OwnerLoop

if TYPE_CHECKING:
    from asyncio import TimerHandle


class StallWatch:
    """Reports each long wait once, together with all other waits that are long by then.

    So there is at most one report in ``HELD_TOO_LONG`` seconds, however many channels wait. It
    uses one timer, which runs while channels wait.

    Args:
        owner_loop: the event loop, for the time and the timer.
        since: returns since when each waiting channel has waited without being served.
        report: called with the seconds of the longest wait that was not reported yet.
    """

    def __init__(
        self,
        owner_loop: OwnerLoop,
        since: Callable[[], Collection[float]],
        report: Callable[[float], None],
    ) -> None:
        self._owner_loop = owner_loop
        self._since = since
        self._report = report
        self._timer: TimerHandle | None = None
        self._reported_until = -math.inf  # waits that began by this time are reported

    def begin(self) -> None:
        """Start watching: a channel waits."""
        if self._timer is None:
            self._set_timer(limits.HELD_TOO_LONG)

    def stop(self) -> None:
        """Stop watching: no channel will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, seconds: float) -> None:
        self._timer = self._owner_loop.call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        waits = self._since()
        if not waits:
            return
        now = self._owner_loop.time()
        # A wait that lasts, for example of a client that never reads, must not hide the next one.
        stalled = now - min((since for since in waits if since > self._reported_until), default=now)
        if 0 < stalled < limits.HELD_TOO_LONG:
            self._set_timer(limits.HELD_TOO_LONG - stalled)
            return
        if stalled:
            self._reported_until = now - limits.HELD_TOO_LONG
            self._report(stalled)
        self._set_timer(limits.HELD_TOO_LONG)

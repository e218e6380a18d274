"""Noticing that nobody gives permits back while channels wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import limits
from .home import Home

if TYPE_CHECKING:
    from asyncio import TimerHandle


class StallWatch:
    """Tells once, for each time that channels wait for long and no permit comes back.

    It costs one timer, which runs while channels wait; none of them has one of its own.

    Args:
        home: where the time comes from.
        since: since when channels wait and none was served; None if none waits.
        accuse: told for how many seconds.
    """

    def __init__(
        self, home: Home, since: Callable[[], float | None], accuse: Callable[[float], None]
    ) -> None:
        self._home = home
        self._since = since
        self._accuse = accuse
        self._timer: TimerHandle | None = None
        self._told_of: float | None = None  # the stall that began then

    def begin(self) -> None:
        """A channel waits."""
        if self._timer is None:
            self._again(limits.HELD_TOO_LONG)

    def end(self) -> None:
        """None will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, seconds: float) -> None:
        self._timer = self._home.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        since = self._since()
        if since is None:
            return
        stalled = self._home.time() - since
        if stalled < limits.HELD_TOO_LONG:
            self._again(limits.HELD_TOO_LONG - stalled)
            return
        if since != self._told_of:
            self._told_of = since
            self._accuse(stalled)
        self._again(limits.HELD_TOO_LONG)

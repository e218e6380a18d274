"""Warnings about what may never end: at once, and then once in a while, with how often it was."""

from __future__ import annotations

from collections.abc import Callable
from logging import DEBUG, WARNING, Logger

from . import limits


class RareWarnings:
    """Warns of each kind of thing when it happens, and then at a limited rate.

    What happens in between is told at the level DEBUG, and counted in the next warning. So what
    never ends is heard of again and again, and cannot fill the log.

    Args:
        logger: whom to tell.
        clock: in seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._last: dict[str, float] = {}  # of each kind, when it was warned of
        self._untold: dict[str, int] = {}  # and how often it happened since

    def warn(self, kind: str, text: str) -> None:
        """Tell that it has happened.

        Args:
            kind: what has a rate of its own. There must not be many: they are kept.
            text: what happened.
        """
        now = self._clock()
        last = self._last.get(kind)
        if last is not None and now < last + limits.WARNINGS_QUIET:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            self._logger.log(DEBUG, "%s", text)
            return
        untold = self._untold.pop(kind, 0)
        more = f" ({untold} more like this since the last warning)" if untold else ""
        self._last[kind] = now
        self._logger.log(WARNING, "%s%s", text, more)

"""Warnings that could be repeated without end: logged at a limited rate, with a count."""

from __future__ import annotations

from collections.abc import Callable
from logging import DEBUG, WARNING, Logger
from typing import Final

WARNINGS_QUIET: Final = 10.0
"""Seconds after a warning, for example that connections are refused, before the next one of the
same kind."""


class RareWarnings:
    """Logs each kind of event as a warning at its first occurrence, and then at a limited rate.

    Occurrences in between are logged at DEBUG, and counted in the next warning. So an event that
    goes on without end stays visible, but cannot fill the log.

    Args:
        logger: for the warnings.
        clock: returns the time in seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._last: dict[str, float] = {}  # when each kind was last logged as a warning
        self._suppressed: dict[str, int] = {}  # how often each kind has happened since

    def warn(self, kind: str, text: str) -> None:
        """Log an event.

        Args:
            kind: of the event; each kind has a rate of its own. Kinds are never forgotten, so
                there must be few.
            text: what happened.
        """
        now = self._clock()
        last = self._last.get(kind)
        if last is not None and now < last + WARNINGS_QUIET:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            self._logger.log(DEBUG, "%s", text)
            return
        suppressed = self._suppressed.pop(kind, 0)
        more = f" ({suppressed} more like this since the last warning)" if suppressed else ""
        self._last[kind] = now
        self._logger.log(WARNING, "%s%s", text, more)

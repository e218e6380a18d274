"""When to leave a failing address alone, and how much may be retried."""

from __future__ import annotations

import math
from typing import Final

from ..messaging.backoff import Backoff
from ..protocol.errors import TofuError

FAILURES: Final = 5
"""Calls in a row that fail before an address is left alone. An address that cannot be connected is
left alone at once."""

BUDGET: Final = 10.0
"""The most retries that can be saved up."""

EARNED: Final = 0.1
"""What each successful call adds to the budget, so one call in ten may be retried in the long run:
if all calls were, a service in trouble would get several times its usual load."""


class Breaker:
    """A circuit breaker: it says when an address may be used, from how calls to it went.

    Args:
        backoff: the bounds of the times for which the address is left alone.

    Attributes:
        until: the time, by the loop's clock, before which the address should not be used.
        reason: the text of the last failure.
    """

    def __init__(self, backoff: Backoff) -> None:
        self.until = -math.inf
        self.reason = ""
        self._backoff = backoff
        self._failures = 0  # calls in a row
        self._pauses = 0  # in a row

    @property
    def closed(self) -> bool:
        """Whether there is no reason to leave the address alone."""
        return self.until == -math.inf

    def succeeded(self) -> None:
        """A call was answered, whatever the answer was."""
        if self._failures or self._pauses:
            self._failures = self._pauses = 0
            self.until = -math.inf

    def connected(self) -> None:
        """A connection was made. If no call has failed on the last one, the address works."""
        if not self._failures:
            self.succeeded()

    def failed(self, error: TofuError | TimeoutError, now: float) -> None:
        """A call was not answered.

        While the address is left alone anyway, this changes nothing: when a channel is lost, all of
        its calls fail at once.
        """
        if now < self.until:
            return
        self.reason = str(error)
        self._failures += 1
        if self._failures >= FAILURES:
            self.unreachable(error, now)

    def unreachable(self, error: TofuError | TimeoutError, now: float) -> None:
        """The address could not be connected. Attempts made at the same time count as one."""
        if now < self.until:
            return
        self.reason = str(error)
        self.until = now + self._backoff.wait(self._pauses)
        self._pauses += 1


class RetryBudget:
    """Bounds retries to a part of the calls that succeed."""

    def __init__(self) -> None:
        self._left = BUDGET

    def earn(self) -> None:
        """Count a call that succeeded."""
        if self._left < BUDGET:
            self._left = min(BUDGET, self._left + EARNED)

    def spend(self) -> bool:
        """Take what one retry costs; return False if not enough is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

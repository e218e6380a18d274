"""A channel that waits for permits, for the tests of the pool and of accounts."""

from __future__ import annotations

from tofu_aio.protocol.account import Account
from tofu_aio.protocol.pool import Pool, Waiters


class Waiter:
    """A channel that waits, as far as a pool looks at it."""

    needs = 1
    over_its_share = False
    suspended_at: float | None = None
    suspended_for = 0.0
    suspensions = 0

    def __init__(self, pool: Pool, queue: Waiters | None = None) -> None:
        self.account = Account(pool)
        pool.suspended[self.account] = self
        (pool.waiters if queue is None else queue).append(self)

    def may_go_on(self) -> bool:
        return not self.account.reserved

    def resume(self, granted: int) -> None: ...

    def reconcile_reading(self) -> None: ...

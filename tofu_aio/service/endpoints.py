"""The addresses of a client: which of them a call goes to, and how often it is tried."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Container, Sequence
from typing import Final

from ..protocol.errors import ChannelClosed, ConnectFailed
from ..protocol.message import Message
from ..protocol.status import Status
from ..protocol.text_headers import TextHeaders
from .breaker import RetryBudget
from .counts import ClientCounts
from .endpoint import AttemptFailed, Endpoint, Link
from .errors import UNAVAILABLE, ServiceError
from .payloads import Codecs

_SUCCESS: Final = Status.SUCCESS

PATIENCE: Final = 1.0
"""Seconds that a call waits for an address that is left alone, if no other one works. If it would
have to wait for longer, it fails at once."""


class Endpoints:
    """The addresses of a client.

    Args:
        endpoints: one for each address.
        attempts: how often a call is tried. An address that cannot be connected does not count as
            long as there is another one.
        codecs: decode the details of errors.
        counts: of the client.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], attempts: int, codecs: Codecs, counts: ClientCounts
    ) -> None:
        # In an order of its own: clients that begin together do not all call the same instance.
        self._all = random.sample(endpoints, len(endpoints))
        self._attempts = attempts
        self._codecs = codecs
        self._counts = counts
        self._budget = RetryBudget()
        self._closed = False

    async def request(
        self, body: bytes, headers: TextHeaders, deadline: float | None, *, idempotent: bool
    ) -> Message:
        """Send a request, as often as needed and allowed, and return a response that is a success.

        Args:
            body: of the request.
            headers: of the request, without its time-out.
            deadline: when the caller's time is over, by the loop's clock; None for never.
            idempotent: whether it may be carried out twice.

        Raises:
            TofuError, TimeoutError: as ``Client.call``.
        """
        attempts = self._attempts
        failed_at: set[Endpoint] = set()
        failure = None
        try:
            while True:
                endpoint = self._best() or await self.pick(deadline, failed_at)
                try:
                    response = await endpoint.request(body, headers, deadline)
                except AttemptFailed as failed:
                    failure = failed
                else:
                    if response.status is _SUCCESS:
                        self._budget.earn()
                        return response
                    failure = AttemptFailed(self._refusal(response), sent=True, begun=False)
                if failure.sent or self._is_last(endpoint, failed_at):
                    attempts -= 1
                failed_at.add(endpoint)
                if not attempts or not (idempotent or not failure.begun):
                    raise failure.error
                # What was never sent was no work for any service.
                if failure.sent and not self._budget.spend():
                    raise failure.error
                self._counts.retries += 1
        finally:
            failure = None  # else the error would keep its own traceback alive

    def _refusal(self, response: Message) -> ServiceError:
        """The error of a call that its handler has not begun.

        Raises:
            ServiceError, TimeoutError: it has, and the call failed.
        """
        error = self._codecs.error(response, "")
        if isinstance(error, ServiceError) and error.code == UNAVAILABLE:
            return error
        try:
            raise error
        finally:
            del error

    async def begin_stream(self, deadline: float | None) -> tuple[Endpoint, Link]:
        """A channel for one stream, and the address that has it and takes it back.

        An address that cannot be connected is left alone for a time, so these attempts need no
        budget.

        Args:
            deadline: when the caller's time is over, by the loop's clock; None for never.

        Raises:
            TofuError, TimeoutError: as ``Client.stream``.
        """
        attempts = self._attempts
        failed_at: set[Endpoint] = set()
        while True:
            endpoint = await self.pick(deadline, failed_at)
            try:
                return endpoint, await endpoint.begin_stream(deadline)
            except ConnectFailed:
                if self._is_last(endpoint, failed_at):
                    attempts -= 1
                failed_at.add(endpoint)
                if not attempts:
                    raise

    def _is_last(self, endpoint: Endpoint, failed_at: Container[Endpoint]) -> bool:
        """Whether it was chosen for want of one that has not failed: only then it is an attempt."""
        return endpoint in failed_at or len(self._all) == 1

    def _best(self) -> Endpoint | None:
        """The only address, if it works; None if it takes more to choose one."""
        if len(self._all) > 1 or self._closed:
            return None
        only = self._all[0]
        return only if only.breaker.closed else None

    async def pick(self, deadline: float | None, failed_at: Container[Endpoint] = ()) -> Endpoint:
        """The address for the next call: of those that work, the one with the fewest calls.

        Args:
            deadline: as for ``request``.
            failed_at: the addresses where the call has failed already. They are the last choice.

        Raises:
            ConnectFailed: none works, and none is due for another attempt soon.
            ChannelClosed: the client is closed.
        """
        if self._closed:
            raise ChannelClosed("the client was closed")
        now = asyncio.get_running_loop().time()

        def rank(each: Endpoint) -> tuple[bool, bool, float, int]:
            until = each.breaker.until
            return until > now + PATIENCE, each in failed_at, max(until, now), each.in_flight

        best = min(self._all, key=rank)
        if len(self._all) > 1:
            # The next call starts with another address, if they are equal.
            self._all.append(self._all.pop(0))
        pause = best.breaker.until - now
        if pause > 0:
            patience = PATIENCE if deadline is None else min(PATIENCE, deadline - now)
            if pause > patience:
                raise ConnectFailed(
                    f"{', '.join(each.name for each in self._all)}: no connection; the next "
                    f"attempt is due in {pause:.1f} s. The last error was: {best.breaker.reason}"
                )
            await asyncio.sleep(pause)
            if self._closed:
                raise ChannelClosed("the client was closed")
        return best

    async def aclose(self) -> None:
        """Close all channels."""
        self._closed = True
        async with asyncio.TaskGroup() as closing:
            for endpoint in self._all:
                closing.create_task(endpoint.aclose())

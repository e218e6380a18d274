"""Connecting to a host that has several addresses: happy eyeballs (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import TypeAlias

from .limits import ATTEMPT_DELAY

SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
Endpoint: TypeAlias = tuple[socket.AddressFamily, SocketName]
"""One resolved address, as the kernel takes it: the family, and the arguments of connect(2)."""

Attempt: TypeAlias = Callable[[Endpoint], Coroutine[object, object, socket.socket]]


class NoneConnected(Exception):
    """Every attempt failed.

    Args:
        failures: each address that was tried, with its error, in the order of the failures.
    """

    def __init__(self, failures: Sequence[tuple[Endpoint, OSError]]) -> None:
        super().__init__("no address connected")
        self.failures = failures


async def first_connected(endpoints: Sequence[Endpoint], attempt: Attempt) -> socket.socket:
    """Try the addresses in turn, without waiting long for any of them; the first to connect wins.

    The next attempt starts when the previous one has failed, or after 250 ms without an answer.
    Once one has connected, the others are cancelled and their sockets closed.

    Raises:
        NoneConnected: all attempts failed.
    """
    waiting = deque(interleaved(endpoints))
    running: dict[asyncio.Task[socket.socket], Endpoint] = {}
    failures: list[tuple[Endpoint, OSError]] = []
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                endpoint = waiting.popleft()
                started = asyncio.create_task(attempt(endpoint), name=f"tofu connect {endpoint}")
                running[started] = endpoint
            done, _ = await asyncio.wait(
                running,
                timeout=ATTEMPT_DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    del running[task]
                    winner = task.result()
                elif isinstance(error, OSError):
                    failures.append((running.pop(task), error))
                elif error is not None:
                    raise error
        await _give_up(running)
    except BaseException:
        if winner is not None:
            winner.close()
        await _give_up(running)
        raise
    if winner is None:
        raise NoneConnected(failures)
    return winner


def interleaved(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Alternate between the address families, so that a broken one does not delay the others.

    Within each family the resolver's order is kept.
    """
    families: dict[socket.AddressFamily, list[Endpoint]] = {}
    for endpoint in endpoints:
        families.setdefault(endpoint[0], []).append(endpoint)
    turns = zip_longest(*families.values())
    return [endpoint for endpoint in chain.from_iterable(turns) if endpoint is not None]


async def _give_up(running: Collection[asyncio.Task[socket.socket]]) -> None:
    for task in running:
        task.add_done_callback(_close)
        task.cancel()
    if running:
        await asyncio.wait(running)


def _close(loser: asyncio.Task[socket.socket]) -> None:
    if not loser.cancelled() and loser.exception() is None:
        loser.result().close()

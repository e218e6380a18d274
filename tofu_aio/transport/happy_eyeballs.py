"""Connecting to a host of several addresses: happy eyeballs (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import TypeAlias

from .limits import ATTEMPT_DELAY

SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
Place: TypeAlias = tuple[socket.AddressFamily, SocketName]
"""What one address is for the kernel."""

Attempt: TypeAlias = Callable[[Place], Coroutine[object, object, socket.socket]]


class NoneConnected(Exception):
    """Every place failed.

    Args:
        failures: the error of each place that was tried, in the order in which they came.
    """

    def __init__(self, failures: Sequence[tuple[Place, OSError]]) -> None:
        super().__init__("no place connected")
        self.failures = failures


async def first_connected(places: Sequence[Place], attempt: Attempt) -> socket.socket:
    """Try each place in turn, without waiting long for one; the first to connect wins.

    The next one is begun when the last has failed, or has not answered in 250 ms. The others are
    given up, and closed, when one has won.

    Raises:
        NoneConnected: all failed.
    """
    waiting = deque(interleaved(places))
    running: dict[asyncio.Task[socket.socket], Place] = {}
    failures: list[tuple[Place, OSError]] = []
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                place = waiting.popleft()
                running[asyncio.create_task(attempt(place), name=f"tofu connect {place}")] = place
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


def interleaved(places: Sequence[Place]) -> list[Place]:
    """The families in turn, each in the resolver's order: one that is broken holds up no other."""
    families: dict[socket.AddressFamily, list[Place]] = {}
    for place in places:
        families.setdefault(place[0], []).append(place)
    turns = zip_longest(*families.values())
    return [place for place in chain.from_iterable(turns) if place is not None]


async def _give_up(running: Collection[asyncio.Task[socket.socket]]) -> None:
    for task in running:
        task.add_done_callback(_close)
        task.cancel()
    if running:
        await asyncio.wait(running)


def _close(loser: asyncio.Task[socket.socket]) -> None:
    if not loser.cancelled() and loser.exception() is None:
        loser.result().close()

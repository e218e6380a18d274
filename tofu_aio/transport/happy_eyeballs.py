"""Connecting to a host that has several addresses: happy eyeballs (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import TypeAlias, TypeVar

from .limits import ATTEMPT_DELAY

SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
Endpoint: TypeAlias = tuple[socket.AddressFamily, SocketName]
"""One resolved address, as the kernel takes it: the family, and the arguments of connect(2)."""

C = TypeVar("C")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)

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
    raced = await race(interleaved(endpoints), attempt, ATTEMPT_DELAY, OSError, _close)
    winner, failures = raced
    if winner is None:
        raise NoneConnected(failures)
    return winner


def _close(sock: socket.socket) -> None:
    sock.close()


async def race(
    candidates: Sequence[C],
    attempt: Callable[[C], Coroutine[object, object, R]],
    delay: float,
    expected: type[E],
    discard: Callable[[R], object],
) -> tuple[R | None, list[tuple[C, E]]]:
    """Try one candidate after another, without waiting long for any of them; the first wins.

    Once one has won, the other attempts are cancelled.

    Args:
        candidates: in the order in which they are tried.
        attempt: called with each.
        delay: seconds without an answer after which the next one is tried too.
        expected: errors of a candidate that cannot be used. Others end the race.
        discard: called with the result of each attempt that succeeds and does not win.

    Returns:
        The result of the winner, or None; and the candidates that failed, with their errors, in
        the order of the failures.
    """
    waiting = deque(candidates)
    running: dict[asyncio.Task[R], C] = {}
    failures: list[tuple[C, E]] = []
    winner: R | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                candidate = waiting.popleft()
                started = asyncio.create_task(attempt(candidate), name=f"tofu connect {candidate}")
                running[started] = candidate
            done, _ = await asyncio.wait(
                running,
                timeout=delay if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    del running[task]
                    winner = task.result()
                elif isinstance(error, expected):
                    failures.append((running.pop(task), error))
                elif error is not None:
                    raise error
        await _give_up(running, discard)
    except BaseException:
        if winner is not None:
            discard(winner)
        await _give_up(running, discard)
        raise
    return winner, failures


def interleaved(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Alternate between the address families, so that a broken one does not delay the others.

    Within each family the resolver's order is kept.
    """
    families: dict[socket.AddressFamily, list[Endpoint]] = {}
    for endpoint in endpoints:
        families.setdefault(endpoint[0], []).append(endpoint)
    turns = zip_longest(*families.values())
    return [endpoint for endpoint in chain.from_iterable(turns) if endpoint is not None]


async def _give_up(running: Collection[asyncio.Task[R]], discard: Callable[[R], object]) -> None:
    def lost(loser: asyncio.Task[R]) -> None:
        if not loser.cancelled() and loser.exception() is None:
            discard(loser.result())

    for task in running:
        task.add_done_callback(lost)
        task.cancel()
    if running:
        await asyncio.wait(running)

"""Simulated worlds for one test."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from random import Random
from typing import Protocol

from .network import Network
from .world import World


class WorldFixture(Protocol):
    """The type of the fixture ``tofu_world``."""

    def __call__(
        self, seed: int = 0, network: Network | Callable[[Random], Network] | None = None
    ) -> World:
        """Make a world; see ``World``."""


@contextmanager
def worlds() -> Generator[WorldFixture]:
    """A function that makes worlds. At the end of the block none may have an open socket.

    If the block raises, the end of each world's trace is printed.

    Raises:
        AssertionError: a program has left sockets open. The message has the seed.
    """
    made: list[World] = []

    def world(seed: int = 0, network: Network | Callable[[Random], Network] | None = None) -> World:
        made.append(World(seed, network))
        return made[-1]

    try:
        yield world
    except BaseException:
        for each in made:
            print(f"the world with seed {each.seed}:\n{each.trace.last()}")
        raise
    for each in made:
        assert not each.open_sockets, (
            f"the program in the world with seed {each.seed} has left {each.open_sockets} sockets "
            f"open:\n{each.trace.last()}"
        )

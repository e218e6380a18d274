"""A plugin that runs a part of the tests: ``pytest -p tests.shards --shard 0/3``.

Each test belongs to one part, whichever others are there, and the parts take about the same time:
where a test belongs is decided by the checksum of its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest


def belongs(shard: str) -> Callable[[str], bool]:
    """What tells whether a test belongs to a part, by its name.

    Args:
        shard: as in ``--shard``.

    Raises:
        pytest.UsageError: it is not K/N, with K from 0 to N - 1.
    """
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise pytest.UsageError(f"--shard {shard}: it takes K/N, with K from 0 to N - 1")
    wanted, parts = int(number), int(count)

    def mine(name: str) -> bool:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()) % parts == wanted

    return mine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", metavar="K/N", help="run the K-th of N parts of the tests, from 0")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shard = config.getoption("shard")
    if shard is None:
        return
    mine = belongs(shard)
    left = [item for item in items if not mine(item.nodeid)]
    items[:] = [item for item in items if mine(item.nodeid)]
    config.hook.pytest_deselected(items=left)

"""The parts that the tests can be run in are all of the tests, each once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shards import belongs

ROOT = Path(__file__).parents[1]

NAMES = [f"tests/test_it.py::test_it[{loop}-{n}]" for n in range(1000) for loop in ("a", "b", "c")]


def test_each_test_belongs_to_one_part_and_the_parts_are_alike() -> None:
    parts = [set(filter(belongs(f"{number}/3"), NAMES)) for number in range(3)]
    assert set().union(*parts) == set(NAMES)
    assert sum(map(len, parts)) == len(NAMES)
    assert all(900 < len(part) < 1100 for part in parts)


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "1/0", ""])
def test_what_is_no_part_is_refused(shard: str) -> None:
    with pytest.raises(pytest.UsageError, match="it takes K/N, with K from 0 to N - 1"):
        belongs(shard)


def test_only_what_belongs_to_the_part_runs() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    command += ["-p", "tests.shards", "--shard", "1/2", "tests/protocol/test_address.py"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *names, summary = filter(None, listing.stdout.splitlines())
    assert names == list(filter(belongs("1/2"), names))
    ran, total, left = map(int, re.findall(r"(\d+)/(\d+) .*\((\d+) deselected", summary)[0])
    assert names
    assert left
    assert (len(names), total - ran) == (ran, left)

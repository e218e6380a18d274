"""Percentiles, and the peak memory of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.processes import spawn
from tofu_aio.cli.measuring import milliseconds, percentile


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 101)), 100, 100),
        (list(range(1, 1001)), 99, 990),
        ([1.0, 2.0], 0, 1.0),
    ],
)
def test_percentiles_are_by_nearest_rank(
    values: list[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == expected


def test_times_are_in_milliseconds() -> None:
    assert milliseconds(0.0123456) == "12.346 ms"


PEAK = """
from tofu_aio.cli.measuring import peak_memory
before = peak_memory()
filled = len(bytearray(b"x") * 50_000_000)
after = peak_memory()
print(before > 1_000_000, after - before > 45_000_000, peak_memory() >= after)
"""


def test_the_peak_stays_when_the_memory_is_gone(tmp_path: Path) -> None:
    assert spawn("-c", PEAK, folder=tmp_path).finish() == (0, "True True True\n", "")


@pytest.mark.parametrize("size", [100_000_000])
def test_the_parents_peak_is_not_the_childs(tmp_path: Path, size: int) -> None:
    mine = bytearray(b"x") * size
    code = "from tofu_aio.cli.measuring import peak_memory; print(peak_memory())"
    assert int(spawn("-c", code, folder=tmp_path).finish().out) < len(mine)

"""Values of options that are not valid."""

from __future__ import annotations

import pytest

from tests.cli.processes import Run, Start


def test_a_limit_that_is_not_a_size(tofu_run: Run) -> None:
    ended = tofu_run("receive", "tcp://127.0.0.1:0", "-o", "copy", "--max-size", "much")
    assert ended.code == 2
    assert "'much' is not a size: give a number of bytes, or for example 200M or 4G" in ended.err


@pytest.mark.parametrize("pool", [0, 524_345])
def test_a_pool_out_of_range_is_refused_with_the_range(start: Start, pool: int) -> None:
    code, out, said = start("serve", "--pool", str(pool), "tcp://127.0.0.1:0").finish()
    assert (code, out) == (2, "")
    assert f"{pool} is not in the range 1<=x<=524344" in said

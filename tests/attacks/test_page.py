"""The page about hostile peers has the actual limits, and all attacks."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.attacks.catalogue import ATTACKS
from tests.benchmarks.processes import ROOT
from tofu_aio import rare_warnings
from tofu_aio.messaging import limits
from tofu_aio.messaging.accepting.admission import NO_BOUNDS
from tofu_aio.messaging.limits import Limits
from tofu_aio.transport import limits as transport_limits

PAGE = Path(ROOT, "docs", "design", "security.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([\w.,]+) \|", PAGE, re.MULTILINE))

OPTIONS = {
    field.name: getattr(given, field.name)
    for given in (Limits(), NO_BOUNDS)
    for field in fields(given)
    if field.name != "heartbeat"  # which depends on the address, and is listed as HEARTBEAT
}


CONSTANTS = vars(limits) | vars(transport_limits) | vars(rare_warnings)


@pytest.mark.parametrize("name", ROWS)
def test_a_limit_is_what_it_says(name: str) -> None:
    value = OPTIONS[name] if name in OPTIONS else CONSTANTS[name]
    assert ROWS[name] == (
        "none" if value is None else f"{value:,g}" if value < 1 else f"{value:,.0f}"
    )


def test_each_option_that_is_a_limit_stands_there() -> None:
    assert OPTIONS.keys() <= ROWS.keys()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_explained_and_was_measured(name: str) -> None:
    assert f"| {name} | {ATTACKS[name].what} |\n" in PAGE
    rows = re.findall(rf"^\| {name} \| (\w+) \|.*\| (\w+) \|$", PAGE, re.MULTILINE)
    assert rows == [(loop, "held") for loop in ("reactor", "asyncio", "uvloop")]

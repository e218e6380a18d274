"""Each attack for a second, and attacks whose verdict must be bad. Real processes, on one loop."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.attacks.__main__ import faults_of
from tests.attacks.catalogue import ATTACKS
from tests.benchmarks.processes import ROOT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="uses /proc, and connects from 127.0.0.2"),
    pytest.mark.timeout(180),
]


def attack(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run attacks as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "tests.attacks", "--loop", "reactor", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def with_tls(request: pytest.FixtureRequest) -> None:
    """Skip the tests if certificates cannot be made."""
    pytest.importorskip("trustme", reason="it makes certificates", exc_type=ImportError)


@pytest.mark.parametrize("name", ATTACKS)
def test_it_costs_what_it_may_and_honest_clients_are_served(name: str) -> None:
    result = attack(name, "--seconds", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"| {name} | reactor |" in result.stdout
    assert result.stdout.rstrip().endswith("| held |")


@pytest.mark.parametrize(
    ("name", "limit", "verdict"),
    [
        (
            "unfinished-uploads",
            "messaging.delivery.joining._OVERHEAD=-100000000",
            "memory beyond the bound",
        ),
        (
            "frequent-heartbeats",
            "messaging.connection.agreements.CLIENT_HEARTBEAT_MIN=0.01",
            "are due",
        ),
        ("forged-reasons", "protocol.quoting.QUOTED=100000", "bad lines in the log"),
        (
            "idle-clients",
            "messaging.connection.heartbeat._SILENT_LOOKS=1000000",
            "visit: ConnectFailed",
        ),
    ],
)
def test_the_verdict_is_bad_where_a_limit_does_not_hold(
    name: str, limit: str, verdict: str
) -> None:
    result = attack(name, "--seconds", "4", "--limits", limit)
    assert result.returncode == 1, result.stdout + result.stderr
    assert verdict in result.stdout


@pytest.mark.parametrize(
    "line",
    ["ERROR tofu_aio: it broke", "Traceback (most recent call last):", "INFO a: \x1b[2J", "", " x"],
)
def test_a_line_that_the_log_must_not_have_is_found(line: str) -> None:
    good = "WARNING tofu_aio.messaging: as it should be\n"
    assert not faults_of(good, "as it should be")
    assert faults_of(f"{good}{line}\n{good}", "as it should be")


def test_a_log_without_the_attack_s_text_is_a_fault() -> None:
    assert faults_of("INFO tofu_aio: nothing\n", "all is lost")

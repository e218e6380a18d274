"""The fleet of docs/design/scale.md, in its smallest form: it loses nothing that it need not."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.extras import needs_msgspec
from tests.simulated import fleet_report
from tests.simulated.fleet import NEARBY, WORK, Fleet, Load
from tofu_aio import testing


def told(seed: int = 1, instances: int = 5, programs: int = 4) -> fleet_report.Report:
    world = testing.World(seed, NEARBY)
    report = world.run(fleet_report.report(Fleet(world, instances, programs), seconds=0.5))
    assert not world.open_sockets
    return report


@needs_msgspec
def test_a_fleet_answers_all_calls_and_a_rolling_restart_costs_none() -> None:
    report = told()
    assert report.channels == 20
    for load in (*report.uses.values(), report.restart):
        assert load.calls
        assert not load.failures
        assert load.percentile(50) >= WORK * 1000
    assert min(look.channels for look in report.restart.looks) < 20  # something was restarted


@needs_msgspec
def test_a_crash_fails_no_more_than_the_calls_under_way_and_all_come_back() -> None:
    report = told(seed=2)
    assert report.crash.failures.total() <= report.crash.most_running
    assert min(look.channels for look in report.crash.looks) == 16
    assert report.crash.looks[-1].channels == 20


@needs_msgspec
def test_the_same_seed_gives_the_same_figures() -> None:
    assert told() == told()


def test_percentiles_count_failures_as_calls_that_never_end() -> None:
    load = Load(times=[0.003, 0.001, 0.002])
    assert [load.percentile(percent) for percent in (1, 50, 100)] == [1, 2, 3]
    load.failures["TimeoutError"] += 1
    assert load.percentile(75) == 3
    assert load.percentile(76) == math.inf


@needs_msgspec
def test_the_report_is_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["fleet_report", "--instances", "2", "--programs", "2"]
    monkeypatch.setattr("sys.argv", line)
    monkeypatch.setattr(fleet_report, "SECONDS", 0.2)
    fleet_report.main()
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("| 4 channels | calls |")
    assert len(rows) == 2 + len(fleet_report.USES) + 2


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib, of the extra bench, draws")
@needs_msgspec
def test_plots_are_drawn(tmp_path: Path) -> None:
    fleet_report.draw(told(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"fleet-load.svg", "fleet-crash.svg"}

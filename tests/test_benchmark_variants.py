"""The benchmark with plain Python and the compiled core, and what it tells of the machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.benchmarks import calibration, costs, processes, roster, tables, targets
from tests.benchmarks.cases import ONE, SOME
from tests.benchmarks.load import Load
from tests.benchmarks.measuring import MeasurementFailed, measure
from tests.benchmarks.results import Results, Subject
from tests.benchmarks.roster import Field

pytestmark = pytest.mark.timeout(240)


def rounds(*rates: dict[str, float]) -> Results:
    """Of the case with window 64, on one loop."""
    results = Results()
    for round_ in rates:
        for contender, rate in round_.items():
            results.add(Subject(SOME.title, contender, "asyncio"), {"rate": rate})
    return results


@pytest.mark.parametrize(
    ("pure", "why"), [("1", "TOFU_AIO_PURE is set"), ("0", "no compiled core is installed")]
)
def test_without_a_compiled_core_only_plain_python_runs_with_a_line(
    pure: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOFU_AIO_PURE", pure)
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    field = roster.choose(["tofu", "tofu_compiled"], ["asyncio"])
    assert field.contenders == ["tofu"]
    (line,) = field.left_out
    assert line == f"tofu_aio, compiled: {why}; only plain Python runs"


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_measured_is_plain_python_or_the_compiled_core_as_was_asked_for(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = shutil.ignore_patterns("_compiled*")
    shutil.copytree(processes.ROOT / "tofu_aio", tmp_path / "tofu_aio", ignore=without)
    plain_only = processes.why_plain()
    monkeypatch.setenv("TOFU_AIO_PURE", "1" if compiled else "0")  # what the user has set
    load = Load("tofu", "asyncio", 1, 64, 0.01, compiled=compiled)
    if compiled:
        with pytest.raises(MeasurementFailed, match=r"runs plain Python, and not the compiled"):
            measure(load, tmp_path.resolve())
    else:
        assert measure(load, tmp_path.resolve())["rate"] > 0
    if not plain_only or not compiled:
        assert measure(load)["rate"] > 0


@pytest.mark.parametrize(
    ("name", "module", "compiled"),
    [("tofu", "tofu", False), ("tofu_compiled", "tofu", True), ("bare", "bare", False)],
)
def test_a_contender_on_the_compiled_core_is_the_plain_one_s_program(
    name: str, module: str, compiled: bool
) -> None:
    load = SOME.load(name, "asyncio", 1.0)
    assert (load.contender, load.compiled) == (module, compiled)


def test_the_compiled_core_is_shown_beside_plain_python() -> None:
    results = rounds(*({"tofu": 10, "tofu_compiled": rate, "bare": 100} for rate in (20, 40, 30)))
    field = Field(["bare", "tofu", "tofu_compiled"], ["asyncio"], [])
    plain, compiled = tables.of_case(SOME, results, field).splitlines()[-2:]
    assert "| tofu_aio, plain | asyncio | 10 | - | 0.10 | - |" in plain
    assert "| asyncio | 30 | - | 0.30 (0.20 to 0.40) | 3.00 (2.00 to 4.00) |" in compiled


def test_a_round_trip_is_shown_beside_plain_python() -> None:
    results = Results()
    for name, time in (("bare", 10.0), ("tofu", 40.0), ("tofu_compiled", 20.0)):
        results.add(Subject(ONE.title, name, "asyncio"), {"p50": time})
    field = Field(["bare", "tofu", "tofu_compiled"], ["asyncio"], [])
    *_, last = tables.of_latency(results, field).splitlines()
    assert "| tofu_aio, compiled | asyncio | 20 | - | - | - | 2.00 | 0.50 |" in last


@pytest.mark.parametrize(
    ("took", "verdict"),
    [(calibration.FAST, "not reached"), (calibration.FAST + 1, "not for this machine")],
)
def test_a_target_for_fast_machines_is_none_for_the_others(took: float, verdict: str) -> None:
    results = rounds({"bare": 100, "tofu_compiled": 74})
    results.machine.append({"python": took, "calls": 1.0})
    told = {o.target.title: o.verdict() for o in targets.outcomes(results, ["asyncio"])}
    assert (
        told["64 B, window 64, compiled: rate over that of bare, where Python is fast"] == verdict
    )


def test_a_line_tells_how_fast_the_machine_is() -> None:
    results = Results()
    assert calibration.line(results) == ""
    results.machine += [{"python": python, "calls": 2000.0} for python in (300.0, 200.0, 250.0)]
    line = calibration.line(results)
    assert "250 ns (200 to 300) for a fixed piece of Python, 2,000 ns (2,000 to 2,000) for" in line


@pytest.mark.skipif(sys.platform == "win32", reason="its processor time ticks too coarsely")
@pytest.mark.parametrize("compiled", [False, not processes.why_plain()])
def test_the_steps_of_a_message_are_told_for_plain_python_and_the_core(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "why_plain", lambda: "" if compiled else "for a reason")
    monkeypatch.setattr(sys, "argv", ["costs", "--messages", "640"])
    monkeypatch.setenv("COLUMNS", "160")

    costs.main()

    lines = capsys.readouterr().out.splitlines()
    told = [line.split("│")[1:-1] for line in lines if line.startswith("│")]
    assert "a server's whole echo" in [step.strip() for step, *_ in told]
    for _, *figures in told:
        assert len(figures) == (3 if compiled else 1)
        assert all(float(figure.replace(",", "")) > 0 for figure in figures)

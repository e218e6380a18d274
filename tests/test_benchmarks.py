"""The benchmark of speed in its smallest form: it tells all that it promises, also what fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import (
    against,
    bound,
    broker_memory,
    call_costs,
    fanout,
    processes,
    rounds,
    run,
    tables,
    targets,
)
from tests.benchmarks.cases import CASES, FEW_CHANNELS, MANY_CHANNELS, SOME, Case
from tests.benchmarks.load import Load, Meter
from tests.benchmarks.measuring import MeasurementFailed, measure
from tests.benchmarks.results import Results, Spread, Subject
from tests.benchmarks.roster import CONTENDERS, Contender, Field
from tests.transport.nats.brokers import missing

pytestmark = pytest.mark.timeout(240)

in_a_repository = pytest.mark.skipif(
    not (processes.ROOT / ".git").exists() or shutil.which("git") is None,
    reason="revisions are in a repository only, and git shows them",
)

too_coarse = pytest.mark.skipif(
    sys.platform == "win32", reason="its processor time ticks too coarsely: some parts take none"
)
needs_a_broker = pytest.mark.skipif(missing() is not None, reason=str(missing()))

PROMISED = [
    ("64 B, window 64: rate over that of bare", "≥ 0.55"),
    ("64 B, window 64: rate over that of picows", "≥ 1.2"),
    ("64 B, window 64: rate over that of websockets", "≥ 3"),
    ("64 B, window 64: rate over that of pyzmq", "≥ 10"),
    ("64 B, window 64: rate over that of pynng", "≥ 10"),
    ("64 B, window 64: rate over that of grpc", "≥ 10"),
    ("64 B, window 200: rate over that of bare", "≥ 0.65"),
    ("64 B, window 1: round trip (p50) over that of bare", "≤ 1.15"),
    ("64 B, window 64, request() from 64 tasks: rate over that of bare", "≥ 0.35"),
    ("64 KiB, window 8: bytes a second over those of bare", "≥ 0.8"),
    ("64 B, window 64: the server's CPU time of an echo more than bare", "≤ 2.5 µs"),
    ("calls of 64 B, window 64, client.call(): rate over that of requests", "≥ 0.6"),
    ("calls of 64 B, window 64, client.call(): rate over that of grpc_unary", "≥ 8"),
    ("10,000 idle channels, server: bytes each more than bare", "≤ 1500 B"),
    ("10,000 idle channels, client: bytes each more than bare", "≤ 1500 B"),
    ("64 B, 1,000 channels, window 1: rate over that at 10", "≥ 0.8"),
    ("64 B, 1,000 channels, window 8: rate over that at 10", "≥ 0.8"),
    ("64 B, window 64, compiled: rate over that of plain", "≥ 3.5"),
    ("64 B, window 64, compiled: rate over that of picows", "≥ 2.5"),
    ("64 B, window 64, compiled: rate over that of bare, where Python is fast", "≥ 0.75"),
    ("64 B, window 200, compiled: rate over that of plain", "≥ 4.5"),
    ("64 B, window 64, request() from 64 tasks, compiled: rate over that of plain", "≥ 2.5"),
    ("64 B, window 64, request() from 64 tasks, compiled: rate over that of picows", "≥ 1.2"),
    ("64 B, window 1, compiled: round trip (p50) over that of plain", "≤ 0.6"),
    ("64 B, window 1, compiled: round trip (p50) over that of picows", "≤ 1.3"),
    ("4 KiB, window 64, compiled: rate over that of plain", "≥ 2"),
    ("64 KiB, window 8, compiled: bytes a second over those of bare", "≥ 0.8"),
    ("10,000 idle channels, compiled, server: bytes each over plain ones", "≤ 1"),
    ("10,000 idle channels, compiled, client: bytes each over plain ones", "≤ 1"),
    ("the reactor over the stock loop: bare, 64 B, window 1", "≥ 1"),
    ("the reactor over the stock loop: tofu, 64 B, window 64", "≥ 1"),
    ("the reactor over the stock loop: add_reader, changing interest, 1,000 registered", "≥ 1"),
]


def start(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.run", *map(str, arguments)],
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
        check=False,
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A command line of the least there is, and one case with a contender that does not exist."""
    monkeypatch.setitem(CONTENDERS, "nobody", Contender("nobody"))
    monkeypatch.setattr(run, "CASES", (Case("tiny", ("bare", "nobody", "tofu"), 4, 64),))
    line = "run --rounds 2 --seconds 0.02 --loops asyncio --connections 0 --contenders bare tofu"
    return [*line.split(), "nobody", f"--json={tmp_path / 'b.json'}", f"--plots={tmp_path}"]


def spreads(*rates: dict[str, float]) -> Results:
    """Rounds of the case with window 64, on one loop."""
    results = Results()
    for round_ in rates:
        for contender, rate in round_.items():
            results.add(Subject(SOME.title, contender, "asyncio"), {"rate": rate})
    return results


@too_coarse
def test_the_whole_program_measures_every_case_and_tells_every_target(tmp_path: Path) -> None:
    told = tmp_path / "bench.json"
    line = ["--rounds", 1, "--seconds", 0.05, "--loops", "asyncio", "--connections", 0]
    names = ["bare", "tofu", "calls"]
    if not processes.why_plain():
        names += ["tofu_compiled", "requests_compiled"]
    line += ["--contenders", *names, "--json", told, "--plots", tmp_path / "plots"]

    result = start(*line)

    assert result.returncode == 0, result.stdout + result.stderr
    written = json.loads(told.read_text(encoding="utf-8"))
    measured = {(m["case"], m["contender"]): m["rounds"] for m in written["measurements"]}
    assert set(measured) == {
        (case.title, name) for case in CASES for name in names if name in case.contenders
    }
    for figures in measured.values():
        assert {"rate", "bytes", "cpu"} <= set(figures[0])
        assert all(value > 0 for value in figures[0].values())
    assert {"p50", "p90", "p99", "p99.9"} <= set(measured["64 B, window 1", "tofu"][0])
    assert written["failures"] == []
    assert written["calibration"] in result.stdout
    (machine,) = written["machine_rounds"]
    assert min(machine["python"], machine["calls"]) > 0
    assert all(target["verdict"] for target in written["targets"])
    for title, aim in PROMISED:
        assert (title, aim) in {(t["target"], t.get("bound")) for t in written["targets"]}
        assert title in result.stdout
    for case in CASES:
        assert f"**{case.title}**" in result.stdout


def test_plots_are_drawn_where_matplotlib_is_and_else_a_line_says_that_they_are_not(
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", tiny)

    run.main()

    assert "no plots: matplotlib is not installed" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.svg"))


def test_a_contender_that_fails_is_told_with_the_reason_and_the_others_go_on(
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", tiny)

    code = run.main()

    assert code == 1
    line = "FAILED tiny, nobody, asyncio, round 2: ModuleNotFoundError: No module named"
    assert line in capsys.readouterr().out
    written = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    rounds_of = {m["contender"]: m["rounds"] for m in written["measurements"]}
    assert rounds_of["nobody"] == [None, None]
    assert all(rounds_of["bare"] + rounds_of["tofu"])
    assert len(written["failures"]) == 2


def test_who_is_not_installed_is_left_out_with_a_line(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CONTENDERS, "nobody", Contender("nobody", "no-body", "nobody"))
    monkeypatch.setattr(sys, "argv", tiny)

    assert run.main() == 0

    assert "LEFT OUT nobody: no-body is not installed" in capsys.readouterr().out


def test_the_package_is_taken_from_the_tree_that_was_asked_for(tmp_path: Path) -> None:
    load = Load("bare", "asyncio", 1, 64, 0.01)
    with pytest.raises(MeasurementFailed, match=r"tofu_aio comes from .* and not from"):
        measure(load, tmp_path)


@in_a_repository
def test_another_revision_is_measured_from_a_folder_that_is_gone_afterwards() -> None:
    seen: list[Path] = []

    def interrupted(tree: Path) -> None:
        seen.append(tree)
        assert (tree / "tofu_aio" / "__init__.py").exists()
        assert measure(Load("tofu", "asyncio", 1, 64, 0.01), tree)["rate"] > 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), against.tree_of("HEAD") as then:
        interrupted(then)
    assert not seen[0].exists()


@in_a_repository
def test_a_revision_that_is_not_there_is_a_clear_error() -> None:
    result = start("--against", "no-such-revision")
    assert result.returncode == 1
    assert "--against no-such-revision: no tofu_aio of that revision" in result.stderr


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.1, 1.2, 1.3], "faster"),
        ([0.9, 0.8, 0.7], "SLOWER"),
        ([0.9, 1.2, 1.3], "within noise"),
    ],
)
def test_a_difference_counts_only_if_every_round_has_it(ratios: list[float], verdict: str) -> None:
    assert against.verdict(Spread.of(ratios)) == verdict


def test_a_comparison_is_of_the_same_round_and_leaves_out_those_that_failed() -> None:
    results = spreads({"tofu": 50, "bare": 100}, {"tofu": 30, "bare": 40})
    results.add(Subject(SOME.title, "tofu", "asyncio"), None)
    results.add(Subject(SOME.title, "bare", "asyncio"), {"rate": 1})
    tofu, bare = (Subject(SOME.title, name, "asyncio") for name in ("tofu", "bare"))
    assert results.ratio("rate", tofu, bare) == (0.625, 0.5, 0.75)
    assert results.difference("rate", tofu, bare) == (-30, -50, -10)


@pytest.mark.parametrize(("rate", "verdict"), [(55, "reached"), (54, "not reached")])
def test_a_target_is_reached_by_the_median(rate: float, verdict: str) -> None:
    results = spreads(*({"tofu": tofu, "bare": 100} for tofu in (1, rate, 99)))
    (first, *others) = targets.outcomes(results, ["asyncio"])
    assert first.verdict() == verdict
    assert f"| {verdict} |" in tables.of_targets([first])
    assert others[0].verdict() == "not measured"


def test_beside_a_target_stands_how_far_anybody_gets() -> None:
    results = spreads({"bare": 100, "tofu": 40, "sketch": 60})
    few, many = FEW_CHANNELS.title, MANY_CHANNELS.title
    for case, who, rate in [
        (few, "tofu", 50.0),
        (many, "tofu", 40.0),
        (few, "bare", 100.0),
        (many, "bare", 70.0),
    ]:
        results.add(Subject(case, who, "asyncio"), {"rate": rate})
    told = {outcome.target.title: outcome for outcome in targets.outcomes(results, ["asyncio"])}
    first = told[f"{SOME.title}: rate over that of bare"]
    busy = told[f"{many}: rate over that at 10"]
    assert (first.spread, first.limit) == (Spread.of([0.4]), Spread.of([0.6]))
    assert (busy.spread, busy.limit) == (Spread.of([0.8]), Spread.of([0.7]))
    assert "| 0.40 | not reached | 0.60 |" in tables.of_targets([first])


def test_a_meter_counts_what_comes_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr("time.perf_counter_ns", lambda: now)
    meter = Meter(Load("any", "asyncio", 1, 100, 1.0), lambda: None)
    assert meter.lap() == 1
    while True:
        # 40 slow ones warm it up; of the others every tenth takes three times as long.
        warm = meter.count >= 40
        now += (30_000_000 if meter.count % 10 == 9 else 10_000_000) if warm else 10_000_000
        if not meter.lap():
            break
    figures = meter.figures()
    assert figures["p50"] == 10_000
    assert figures["p99"] == 30_000
    assert figures["rate"] == pytest.approx(1e9 / 12_000_000, rel=0.03)
    assert figures["bytes"] == figures["rate"] * 100


def test_everybody_is_measured_in_turn_and_every_other_round_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def note(load: Load, tree: Path) -> dict[str, float]:
        seen.append(load.contender)
        return {"rate": 1.0}

    monkeypatch.setattr(rounds, "measure", note)
    field = Field(["bare", "tofu"], ["asyncio"], [])
    jobs = list(rounds.plan([SOME], field, 0.1))
    rounds.run(jobs, 2, Console(quiet=True), Results())
    assert seen == ["bare", "tofu", "tofu", "bare"]


@pytest.mark.skipif(sys.platform != "linux", reason="nobody else tells a process's peak of memory")
@pytest.mark.parametrize("looked_at", ["gateway", "gatherer"])
def test_programs_that_keep_many_messages_stay_within_the_bound(looked_at: str) -> None:
    program = next(p for p in bound.PROGRAMS.values() if p.looked_at == looked_at)
    assert 0 < bound.grown(program, "asyncio") < program.bound / processes.MIB


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped here")
def test_a_fan_out_reaches_all_that_read_and_a_loop_of_signals_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "fanout --subscribers 12 --stopped 2 --rounds 1 --rate 20 --seconds 0.5"
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.setenv("COLUMNS", "160")

    fanout.main()

    told = {
        row.split("│")[1].strip(): row for row in capsys.readouterr().out.split("\n") if "│" in row
    }
    assert "100%" in told["tofu.Topic"]
    assert "none came" in told["a loop of signal()"]


def told_cells(output: str, bar: str) -> dict[str, list[str]]:
    """The rows of a table that was printed, by their first cells."""
    rows = [line.split(bar)[1:-1] for line in output.splitlines() if line.startswith(bar)]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@needs_a_broker
def test_slow_readers_leave_the_memory_of_a_broker_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = f"broker_memory --seconds 1 --readers 2 --plots {tmp_path}"
    monkeypatch.setattr(sys, "argv", line.split())

    broker_memory.main()

    told = told_cells(capsys.readouterr().out, "|")
    assert {"channels over nats://", "nats-py, publish and subscribe"} <= told.keys()
    _, most, _, _, slow_consumers, sent, *came, lost, errors = told["channels over nats://"]
    assert float(most) < 100
    assert (slow_consumers, lost, errors) == ("0", "0", "none")
    assert number(sent) == sum(map(number, came)) > 0
    drawn = (tmp_path / "nats-memory.svg").exists()
    assert drawn == (find_spec("matplotlib") is not None)


@needs_a_broker
def test_rates_round_trips_and_the_broker_s_part_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.benchmarks import brokered

    names = ("request", "publish", "nats", "nats-request", "nats-call", "tcp")
    line = ["brokered", "--rounds", "1", "--seconds", "0.2", *names]
    monkeypatch.setattr(sys, "argv", line)

    brokered.main()

    rates, trips = capsys.readouterr().out.split("**Round trip, one under way**")
    told = told_cells(rates.partition("| --- |")[2], "|")
    assert list(told) == [brokered.TITLES[name] for name in names]
    assert all(number(rate) > 0 for rate, *_ in told.values())
    assert told[brokered.TITLES["request"]][1] == "1.00"
    costs = {title: cells[-1] for title, cells in told.items()}
    assert [title for title, cost in costs.items() if cost == "-"] == [brokered.TITLES["tcp"]]
    # The system counts in steps of 10 ms.
    assert sum(float(cost) for cost in costs.values() if cost != "-") > 0

    told = told_cells(trips.partition("| --- |")[2], "|")
    assert list(told) == [brokered.TITLES[name] for name in names]
    for cells in told.values():
        middle, late = map(number, cells[:2])
        assert 0 < middle <= late
        assert all(float(ratio) > 0 for ratio in cells[2:])
    assert told[brokered.TITLES["request"]][2:] == ["1.00", "1.00"]


def number(cell: str) -> int:
    """What a cell says, with its commas."""
    return int(cell.replace(",", ""))


@too_coarse
def test_the_parts_of_a_call_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["call_costs", "--calls", "128", "--rounds", "1"])

    call_costs.main()

    rows = [row.split("│") for row in capsys.readouterr().out.split("\n") if row.startswith("│")]
    assert [row[1].strip() for row in rows] == list(call_costs.STEPS)
    assert all(float(cost) > 0 for row in rows for cost in row[2:5])

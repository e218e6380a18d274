"""``tofu top``: tables, JSON, and services that do not tell."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.processes import Run, Start, StartService, signals, unix
from tests.extras import needs_msgspec
from tofu_aio.cli.top_tables import quantile, view
from tofu_aio.service.counts import BUCKETS, CallCounts
from tofu_aio.service.statistics import (
    MAX_CALLERS,
    CallerStatistics,
    HandlerStatistics,
    ServiceStatistics,
    Turns,
)

rich_console = pytest.importorskip("rich.console")


def rows(text: str, first: str) -> dict[str, list[str]]:
    """The cells of a table whose heading begins with a word, by the first one of each row."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(first))
    cells = (line.split() for line in lines[begin + 1 :])
    found: dict[str, list[str]] = {}
    for row in cells:
        if not row:
            break
        found[row[0]] = row[1:]
    return found


def test_one_table(tofu_run: Run, start_service: StartService) -> None:
    address = start_service("statistics")
    for _ in range(2):
        assert tofu_run("request", address, "double", "-d", "1").code == 0
    assert tofu_run("request", address, "fail", "-d", '"x"').code == 1
    assert tofu_run("request", address, "nobody").code == 1
    code, out, err = tofu_run("top", address, "--once")
    assert (code, err) == (0, "")
    assert out.startswith(f"{address}: serving for ")
    assert "refused 1 unimplemented" in " ".join(out.split())  # it may be broken between lines
    assert "permits free" in out
    assert "turns/s, busy" in out
    handlers = rows(out, "handler")
    assert handlers["double"][-2:] == ["2", "0"]
    assert handlers["fail"][-2:] == ["1", "1"]
    (caller,) = rows(out, "channel").values()
    assert caller[0].startswith("tcp://127.0.0.1:")


@unix
def test_json(tofu_run: Run, tmp_path: Path, start_service: StartService) -> None:
    address = start_service("statistics", address=f"uds://{tmp_path}/s")
    assert tofu_run("request", address, "double", "-d", "1").code == 0
    code, out, err = tofu_run("top", address, "--once", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["handlers"]["double"]["ended"]["ok"]["calls"] == 1
    assert told["engine"]["received_bytes"] > 0
    assert told["loop"]["turns"] > 0
    (caller,) = told["callers"]
    if sys.platform == "linux":
        assert caller["peer"].startswith("process ")


@signals
def test_it_goes_on_until_ctrl_c(start: Start, start_service: StartService) -> None:
    top = start("top", start_service("statistics"), "--json")
    lines = [json.loads(top.line()) for _ in range(2)]
    assert lines[0]["seconds"] < lines[1]["seconds"]
    ended = top.stop(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "")


@signals
def test_without_a_terminal_one_table_follows_the_other(
    start: Start, start_service: StartService
) -> None:
    address = start_service("statistics")
    top = start("top", address)
    seen = 0
    while seen < 2:
        seen += top.line().startswith(f"{address}: serving")
    assert top.stop(signal.SIGINT).code == 0


def test_a_service_that_does_not_tell(tofu_run: Run, start_service: StartService) -> None:
    ended = tofu_run("top", start_service(), "--once")
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint == (
        "unimplemented: the service does not tell its statistics: make it with "
        "tofu.Service(statistics=True)"
    )


@needs_msgspec
def test_a_peer_that_is_no_service(tofu_run: Run, start: Start) -> None:
    ended = tofu_run("top", start("serve", "tcp://127.0.0.1:0").listening(), "--once")
    assert ended.code == 1
    assert "'tofu.statistics' cannot be decoded" in ended.complaint


@needs_msgspec
def test_nobody_listens(tofu_run: Run) -> None:
    ended = tofu_run("top", "tcp://127.0.0.1:1")
    assert (ended.code, ended.out) == (1, "")
    assert "nobody is listening" in ended.complaint


# --- the tables ---------------------------------------------------------------------------------


def ok(calls: int, bucket: int = 0) -> CallCounts:
    buckets = [0] * (len(BUCKETS) + 1)
    buckets[bucket] = calls
    return CallCounts(calls, 0.001 * calls, buckets)


def told(
    seconds: float, handlers: dict[str, HandlerStatistics], **others: object
) -> ServiceStatistics:
    fields: dict[str, object] = {
        "draining": False,
        "queued": 0.0,
        "refusals": {},
        "callers": [],
        "channels": 0,
        "engine": None,
        "loop": None,
    }
    return ServiceStatistics(seconds=seconds, handlers=handlers, **{**fields, **others})  # type: ignore[arg-type]


def printed(now: ServiceStatistics, before: ServiceStatistics | None = None) -> str:
    console = rich_console.Console(width=120, file=None, record=True, quiet=False)
    with console.capture() as capture:
        console.print(view("address", now, before))
    return capture.get()


def test_rates_and_quantiles_are_those_since_the_last_look() -> None:
    before = told(10.0, {"name": HandlerStatistics(0, {"ok": ok(100, 0)})}, loop=Turns(10, 1, 1))
    now = told(
        12.0,
        {"name": HandlerStatistics(3, {"ok": ok(100, 0), "bad": ok(4, 5)})},
        loop=Turns(30, 2, 4),
    )
    assert rows(printed(now, before), "handler") == {
        "name": ["3", "2.0", "2.0", "50", "ms", "50", "ms", "104", "4"]
    }
    assert "loop: 10 turns/s, busy 25%" in printed(now, before)
    assert rows(printed(now), "handler")["name"][1:4] == ["8.7", "0.3", "1"]


def test_a_service_that_was_started_anew_has_no_negative_rates() -> None:
    before = told(100.0, {"name": HandlerStatistics(0, {"ok": ok(100)})})
    now = told(2.0, {"name": HandlerStatistics(0, {"ok": ok(1)})})
    assert rows(printed(now, before), "handler")["name"][1] == "0.5"


def test_foreign_text_cannot_control_the_terminal() -> None:
    caller = CallerStatistics(1, "uds://\x1b[31m", 0, 0, 0, 0, suspended=True)
    now = told(
        1.0,
        {"\x1b[31m[red]": HandlerStatistics(1, {})},
        callers=[caller],
        channels=MAX_CALLERS + 1,
        refusals={"\x9b": 1},
    )
    text = printed(now)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "[red]" in text
    assert f"{MAX_CALLERS} more" in text
    assert "waits for permits" in text


@pytest.mark.parametrize(
    ("calls", "part", "expected"),
    [
        ({}, 0.5, "-"),
        ({0: 1}, 0.5, "1 ms"),
        ({0: 1, 1: 1}, 0.5, "1 ms"),
        ({0: 1, 1: 1}, 0.99, "2.5 ms"),
        ({9: 1}, 0.5, "1 s"),
        ({len(BUCKETS): 1}, 0.5, "> 10 s"),
    ],
)
def test_a_quantile_is_the_bound_of_its_bucket(
    calls: dict[int, int], part: float, expected: str
) -> None:
    buckets = [calls.get(number, 0) for number in range(len(BUCKETS) + 1)]
    assert quantile(buckets, part) == expected

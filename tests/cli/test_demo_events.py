"""The events that the demo's processes report."""

from __future__ import annotations

import pytest

from tofu_aio.cli.demo_events import Listening, Progress, parse_event, report


def test_reported_events_are_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    report(Progress(1, 2))
    report(Listening("tcp://127.0.0.1:1"))
    lines = capsys.readouterr().out.encode().splitlines(keepends=True)
    assert [parse_event(line) for line in lines] == [Progress(1, 2), Listening("tcp://127.0.0.1:1")]

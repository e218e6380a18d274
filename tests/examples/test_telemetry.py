"""The telemetry of the examples: who is slow misses readings, is told, and delays nobody."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

import tofu_aio as tofu
from tests.cli.processes import Running, spawn

from .chromium import browser, needs_chromium
from .programs import (
    EXAMPLES,
    Programs,
    ask,
    kill,
    peak_memory,
    posix,
    programs,
    serving,
    terminate,
    until,
)

pytestmark = posix

CAPACITY_BYTES = 16 * 1024 * 1024
"""Bytes of readings that the hub keeps at most."""

QUEUED = 80 * 1024
"""Bytes that may be queued for one watcher."""


class Net:
    """A hub, and those who report and watch."""

    def __init__(self, started: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        self._started = started
        self.address = started.address("hub")
        monkeypatch.setenv("HUB", self.address)
        self.hub = self.start_hub()

    def start_hub(self) -> Running:
        hub = self._started.start("telemetry/hub.py")
        until(lambda: serving(self.address), "for the hub")
        return hub

    def start(self, script: str, *arguments: object) -> Running:
        return self._started.start(f"telemetry/{script}", *map(str, arguments))

    def page(self, port: str = "0") -> tuple[Running, str]:
        """The page, and where it is."""
        options = ["--loop", "tofu_aio:new_event_loop", "--port", port, "--no-access-log"]
        where = ["--app-dir", str(EXAMPLES / "telemetry"), "page:app"]
        page = self._started.keep(
            spawn("-m", "uvicorn", *options, *where, folder=self._started.folder)
        )
        assert page.process.stderr is not None
        for line in page.process.stderr:
            if "running on" in line:
                return page, line.split("running on ")[1].split()[0]
        raise AssertionError(f"it ended early: {page.finish()}")

    def report(self, count: int, sensor: str = "test") -> None:
        """Report readings as fast as possible."""

        async def flood() -> None:
            async with tofu.Client(self.address) as hub:
                for first in range(0, count, 100):
                    calls = (
                        hub.call("report", {"sensor": sensor, "count": number, "value": 0.5})
                        for number in range(first, min(first + 100, count))
                    )
                    await asyncio.gather(*calls)

        asyncio.run(flood())

    def watched_by(self, count: int) -> None:
        """Wait until the hub has so many watchers."""
        until(
            lambda: ask(self.address, "status", result=dict)["subscribers"] == count,
            f"for {count} watchers",
        )


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    with programs(tmp_path) as started:
        yield Net(started, monkeypatch)


class Reading(msgspec.Struct):
    sensor: str
    count: int


async def seen_by_one(hub: tofu.Client, upto: int) -> tuple[int, int]:
    """How many readings a watcher got, and how many it has missed."""
    got = missed = 0
    async for event in hub.subscribe("readings", item=Reading):
        got += 1
        missed += event.missed or 0
        assert event.number == got + missed
        if event.number >= upto:
            break
    return got, missed


def test_all_watchers_get_all_readings(net: Net) -> None:
    watchers = 200

    async def watch() -> list[tuple[int, int]]:
        async with tofu.Client(net.address, streams=watchers) as hub:
            watching = [asyncio.create_task(seen_by_one(hub, 300)) for _ in range(watchers)]
            await asyncio.to_thread(net.watched_by, watchers)
            source = net.start("source.py", "boiler", 300, 1000)
            seen = await asyncio.gather(*watching)
            assert await asyncio.to_thread(source.finish) == (0, "reported 300 readings\n", "")
            return seen

    assert asyncio.run(watch()) == [(300, 0)] * watchers
    assert terminate(net.hub) == (0, "", "")


def test_a_stopped_watcher_delays_nobody_and_is_told(net: Net) -> None:
    stopped = net.start("watch.py")
    net.watched_by(1)
    before = peak_memory(net.hub)
    stopped.process.send_signal(signal.SIGSTOP)
    count, body = 4000, "x" * 10_000  # more than twice what the ring has room for

    async def watch() -> list[tuple[int, int]]:
        async with tofu.Client(net.address) as hub:
            watching = [asyncio.create_task(seen_by_one(hub, count)) for _ in range(20)]
            await asyncio.to_thread(net.watched_by, 21)
            await asyncio.to_thread(net.report, count, body)
            return await asyncio.gather(*watching)

    for got, missed in asyncio.run(watch()):
        assert got + missed == count  # on a busy machine they may miss some, and know it
    assert peak_memory(net.hub) - before < CAPACITY_BYTES + 21 * QUEUED + 10_000_000
    stopped.process.send_signal(signal.SIGCONT)
    got = missed = 0
    while got + missed < count:
        word, number = stopped.line().split()[:2]
        if word == "missed":
            missed += int(number)
        else:
            got += 1
            assert int(word) == got + missed
    assert missed > 0
    assert terminate(net.hub) == (0, "", "")


def test_watchers_outlive_the_hub(net: Net) -> None:
    watch = net.start("watch.py")
    net.watched_by(1)
    net.report(3)
    assert [watch.line().split()[0] for _ in range(3)] == ["1", "2", "3"]
    kill(net.hub)
    code, told, _ = net.start("source.py", "boiler", 1, 1000).finish()
    assert code == 0
    first, last = told.splitlines()
    assert first.startswith("reading 0 may be lost: ")
    assert last == "reported 0 readings"
    net.hub = net.start_hub()
    net.watched_by(1)
    net.report(2)
    assert watch.line() == "the hub was restarted"
    assert [watch.line().split()[0] for _ in range(2)] == ["1", "2"]
    assert terminate(net.hub) == (0, "", "")


@needs_chromium
@pytest.mark.skipif(find_spec("fastapi") is None, reason="the page needs it: pip install fastapi")
def test_the_page_shows_what_comes(net: Net, tmp_path: Path) -> None:
    page, url = net.page()

    async def scenario() -> Running:
        async with browser(tmp_path / "browser") as shown:
            await shown.open(url)
            await asyncio.to_thread(net.watched_by, 1)
            await asyncio.to_thread(net.report, 20, "boiler")
            await asyncio.to_thread(net.report, 20, "pump")
            await shown.becomes("readings.value == 40")
            table = await shown.evaluate("sensors.innerText")
            assert table.split() == ["boiler", "19:", "0.500", "pump", "19:", "0.500"]
            # The hub is restarted: its numbers begin anew, and nobody knows what was missed.
            kill(net.hub)
            net.hub = await asyncio.to_thread(net.start_hub)
            await asyncio.to_thread(net.watched_by, 1)
            await asyncio.to_thread(net.report, 1, "boiler")
            await shown.becomes("readings.value == 41")
            assert await shown.evaluate("[missed.value, restarts.value].join()") == "0,1"
            # The page's server is restarted: the browser gets what it has missed meanwhile.
            kill(page)
            await asyncio.to_thread(net.report, 5, "pump")
            again, _ = await asyncio.to_thread(net.page, url.rpartition(":")[2])
            await shown.becomes("readings.value == 46")
            assert await shown.evaluate("[missed.value, restarts.value].join()") == "0,1"
            return again

    code, _, told = terminate(asyncio.run(scenario()))
    assert code in {0, -signal.SIGTERM}  # uvicorn shuts down, and then ends itself with it
    assert "Traceback" not in told
    assert terminate(net.hub) == (0, "", "")

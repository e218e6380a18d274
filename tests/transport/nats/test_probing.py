"""Probes by themselves: whom they are sent to, and what is kept for them."""

from __future__ import annotations

import asyncio

import pytest

from tests.messaging.peers import until
from tofu_aio.transport.nats import probing
from tofu_aio.transport.nats.chunk import Chunk
from tofu_aio.transport.nats.probing import Probes


class Stream:
    """Counts how often its peer was found to be gone."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.gone = 0

    def unheard(self) -> None:
        self.gone += 1


@pytest.fixture
def posted() -> list[tuple[str, int]]:
    """Where probes went, and their numbers."""
    return []


@pytest.fixture
async def probes(posted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> Probes:
    """Probes that are sent every few turns."""
    monkeypatch.setattr(probing, "PROBE_INTERVAL", 0.001)

    def post(inbox: str, _: str, what: Chunk) -> None:
        posted.append((inbox, what.number))

    return Probes(asyncio.get_running_loop(), post)


async def test_a_process_whose_channels_come_and_go_is_probed_once_a_round(
    probes: Probes, posted: list[tuple[str, int]]
) -> None:
    lasting = Stream("_INBOX.lasting.1")
    probes.add(lasting)
    for token in range(100):
        passing = Stream(f"_INBOX.passing.{token}")
        probes.add(passing)
        probes.discard(passing)
    again = Stream("_INBOX.passing.x")
    probes.add(again)
    await until(lambda: len(posted) >= 2)
    first, second = posted[:2]
    assert [first[0], second[0]] == ["_INBOX.lasting.0", "_INBOX.passing.0"]
    probes.unheard(second[1] - 1)  # of a channel that has gone
    assert (lasting.gone, again.gone) == (0, 0)
    probes.unheard(second[1])
    assert (lasting.gone, again.gone) == (0, 1)
    for stream in (lasting, again):
        probes.discard(stream)


async def test_the_rate_is_kept_from_the_first_round_on_and_each_process_has_its_turn(
    probes: Probes, posted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PROBE_INTERVAL", 3600)  # the test says when it is over
    monkeypatch.setattr(probing, "PROBE_RATE", 10 / 3600)
    sizes: list[int] = []

    def tick() -> None:
        before = len(posted)
        assert probes._timer is not None
        probes._timer.cancel()
        probes._probe()
        sizes.append(len(posted) - before)

    streams = [Stream(f"_INBOX.{number}.1") for number in range(25)]
    for stream in streams:  # all join before the first round
        probes.add(stream)
    tick()
    tick()
    probes.discard(streams.pop())  # before its turn
    for _ in range(4):
        tick()
    assert sizes == [10, 10, 4, 10, 10, 4]
    everybody = [(f"_INBOX.{number}.0", number + 1) for number in range(24)]
    assert posted == 2 * everybody
    for stream in streams:
        probes.discard(stream)
    assert not probes._round


async def test_nothing_is_kept_of_streams_that_have_gone(probes: Probes) -> None:
    for number in range(1000):
        stream = Stream(f"_INBOX.{number}.1")
        probes.add(stream)
        probes.discard(stream)
        probes.discard(stream)  # it is gone already
    kept = [each for each in vars(probes).values() if isinstance(each, dict)]
    assert kept == [{}, {}]
    assert probes._timer is None

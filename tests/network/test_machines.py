"""The network that the tests stand on: what it does to packets, and that nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.network.line import Conditions, Line
from tests.network.machines import Network, ip, remove_leftovers, until


def test_nothing_of_a_network_stays(machines: None) -> None:
    with Network() as network:
        name = network.name
        network.start("a", "tests.network.router", "seed")

        def running() -> list[str]:
            return [pid for each in "ar" for pid in ip("netns", "pids", f"{name}-{each}").split()]

        until(lambda: len(running()) == 2, "two programs")
        pids = running()
    assert name not in ip("netns", "list")
    assert not [pid for pid in pids if Path("/proc", pid).exists()]


def test_what_a_killed_run_has_left_is_removed_by_the_next_one(machines: None) -> None:
    code = (
        "import os, signal; from tests.network.machines import Network\n"
        "with Network() as network:\n"
        "    print(network.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=False,
    )
    name = killed.stdout.decode().strip()
    assert name in ip("netns", "list")
    remove_leftovers()
    assert name not in ip("netns", "list")


def test_a_line_loses_as_many_as_it_shall_and_the_same_ones_each_time() -> None:
    def lost() -> list[int]:
        line = Line("seed")
        line.set(Conditions(lose=10))
        for number in range(1000):
            line.put(bytes([number % 256]), float(number))
        assert line.counts.dropped == 100
        return [packet[0] for packet in line.due(1000.0)]

    assert lost() == lost()


def test_a_line_lets_packets_overtake_those_that_it_holds_back() -> None:
    line = Line("seed")
    line.set(Conditions(overtake=4))
    sent = [bytes([number]) for number in range(100)]
    for packet in sent:
        line.put(packet, 0.0)
    arrived = line.due(1.0)
    assert sorted(arrived) == sent != arrived
    assert line.counts.held_back == 25


def test_jitter_changes_no_order() -> None:
    line = Line("seed")
    line.set(Conditions(delay=0.2, jitter=0.05))
    sent = [bytes([number]) for number in range(100)]
    for number, packet in enumerate(sent):
        line.put(packet, number / 1000)
    assert line.due(0.149) == []
    assert line.due(1.0) == sent


def test_a_slow_line_drops_what_waits_too_long() -> None:
    line = Line("seed")
    line.set(Conditions(rate=1_000_000))
    for _ in range(100):
        line.put(bytes(1250), 0.0)  # 10 ms each, and what would wait for 400 ms is too much
    assert line.counts.dropped == 60
    assert len(line.due(0.105)) == 10


def test_a_cut_line_loses_what_is_on_it() -> None:
    line = Line("seed")
    line.set(Conditions(delay=0.2))
    line.put(b"a", 0.0)
    line.set(Conditions(cut=True))
    assert line.due(1.0) == []
    assert line.counts.dropped == 1

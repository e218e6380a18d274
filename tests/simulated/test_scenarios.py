"""The real engine in simulated worlds: a few seeds here, thousands by ``nox -s simulate``."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.breaking import Mutation, places
from tests.simulated.failed_once import FAILED_ONCE
from tests.simulated.mutations import MUTATIONS, SERVICE_MUTATIONS, tried
from tests.simulated.running import drawn, main
from tests.simulated.scenario import network_of, scenario
from tofu_aio.testing import World

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_old_is_looked_through() -> Iterator[None]:
    """Each run looks at all objects that are alive: exclude those of other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def run(seed: int) -> World:
    world = World(seed, network_of)
    try:
        world.run(scenario(world))
    except Exception as error:
        error.add_note(f"again: nox -s simulate -- --seed {seed}\n{world.trace.last()}")
        raise
    return world


@pytest.mark.parametrize("tens", range(6))
def test_every_promise_holds_in_each_of_ten_worlds(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        run(seed)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_seeds_that_have_failed_once_pass(seed: int) -> None:
    run(seed)


def test_the_same_seed_is_the_same_run() -> None:
    for seed in range(100, 110):
        first, second = run(seed), run(seed)
        assert str(first.trace) == str(second.trace)
        assert first.time == second.time
    assert str(run(111).trace) != str(run(112).trace)


PROGRAM = """
import sys
from tests.simulated.scenario import network_of, scenario
from tofu_aio.testing import World
for seed in range(20):
    world = World(seed, network_of)
    world.run(scenario(world))
    print(seed, world.time, world.checksum)
    print(world.trace)
"""


def test_it_is_so_in_every_process_however_it_hashes() -> None:
    """To the byte: the checksum includes all bytes, also the ids of messages."""
    printed = set()
    for hash_seed in ("0", "1", "4711"):
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )
        assert len(process.stdout) > 10_000
        printed.add(process.stdout)
    assert len(printed) == 1


@pytest.mark.parametrize(
    "mutation", [*MUTATIONS, *SERVICE_MUTATIONS], ids=lambda mutation: mutation.what
)
def test_each_mutation_can_be_applied(mutation: Mutation) -> None:
    """The text that it replaces occurs once, so the table of the design page can be made again."""
    assert len(places(mutation)) == 1


def test_a_mutation_is_detected() -> None:
    """Run what makes the table, for a mutation that the first seed detects."""
    (twice,) = [each for each in MUTATIONS if each.what == "a permit is given back twice"]
    assert tried(twice, seeds=1)[0] == 0


def test_many_seeds_print_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--from", "7"]) == 0
    assert capsys.readouterr().out.startswith("3 seeds from 7: all passed, ")


def test_one_seed_shows_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7"]) == 0
    printed = capsys.readouterr().out
    assert "accepted as" in printed
    assert "seed 7: passed" in printed


def test_a_seed_that_fails_prints_the_command_to_repeat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(world: World) -> None:
        world.note("somebody", "does something")
        assert world.seed != 12, "it is the twelfth"

    monkeypatch.setattr("tests.simulated.running.scenario", broken)
    assert main(["--seeds", "20"]) == 1
    printed = capsys.readouterr().out
    assert "somebody     does something" in printed
    assert "AssertionError: it is the twelfth" in printed
    assert "nox -s simulate -- --seed 12" in printed


@pytest.fixture
def no_git_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a hook, git uses the hook's repository wherever it is called."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


def repository(path: Path, *, commit: str) -> int:
    """Create a repository with a commit, and return the seed that is drawn from it."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "--message", commit)
    first, why = drawn(path)
    assert "drawn from the commit" in why
    assert why.split()[-1].startswith(f"{first:08x}")
    return first


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
@pytest.mark.usefixtures("no_git_hook")
def test_each_commit_has_seeds_of_its_own(tmp_path: Path) -> None:
    first = repository(tmp_path, commit="one")
    assert drawn(tmp_path)[0] == first
    assert repository(tmp_path, commit="another") != first


@pytest.mark.usefixtures("no_git_hook")
def test_without_a_commit_the_first_seed_is_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert drawn(tmp_path) == (0, "because no commit is known here")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert drawn() == (0, "because no commit is known here")


def test_seeds_that_failed_once_run_before_drawn_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulated.running.drawn", lambda: (4711, "for a test"))
    ran: list[int] = []

    async def noted(world: World) -> None:
        ran.append(world.seed)

    monkeypatch.setattr("tests.simulated.running.scenario", noted)
    assert main(["--drawn", "--seeds", "2"]) == 0
    assert ran == [*FAILED_ONCE, 4711, 4712]
    first_line, result = capsys.readouterr().out.splitlines()
    assert (
        first_line
        == f"2 seeds from 4711, for a test, after {len(FAILED_ONCE)} that have failed once"
    )
    assert result.startswith(f"{len(ran)} seeds from 4711: all passed, ")


def test_a_drawn_seed_that_fails_prints_the_command_to_repeat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(world: World) -> None:
        assert world.seed != first, "the first that was drawn"

    first, _ = drawn()
    monkeypatch.setattr("tests.simulated.running.scenario", broken)
    assert main(["--drawn", "--seeds", "2"]) == 1
    assert f"nox -s simulate -- --seed {first}\n" in capsys.readouterr().out

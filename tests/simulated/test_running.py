"""What ``nox -s simulate`` runs and prints."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.extras import WITHOUT_MSGSPEC

pytest.importorskip("msgspec", reason=WITHOUT_MSGSPEC)

from tests.simulated.failed_once import FAILED_ONCE
from tests.simulated.mutations import MUTATIONS, tried
from tests.simulated.running import drawn, main
from tofu_aio.testing import World

pytestmark = pytest.mark.usefixtures("nothing_old_is_looked_through")


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

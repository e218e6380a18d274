"""Two revisions of tofu_aio in one run, so that a regression can be told from noise.

Both have the same programs, those of this tree, which use nothing but the public face.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.benchmarks import processes, rounds, tables
from tests.benchmarks.cases import LARGE, MANY, ONE, SOME, Case
from tests.benchmarks.results import Results, Spread, Subject
from tests.benchmarks.roster import CONTENDERS, Field
from tests.benchmarks.rounds import Job

NOW, THEN = "now", "then"


CASES = ((ONE, "tofu"), (SOME, "tofu"), (SOME, "requests"), (MANY, "tofu"), (LARGE, "tofu"))


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """A folder with the package as it was then, gone afterwards.

    Raises:
        SystemExit: There is no such revision, or the package is not in it.
    """
    # An archive, unlike a worktree, leaves nothing in the repository, however this ends.
    command = ["git", "-C", str(processes.ROOT), "archive", revision, "--", "tofu_aio"]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        why = archive.stderr.decode(errors="replace").strip()
        raise SystemExit(f"--against {revision}: no tofu_aio of that revision: {why}")
    with TemporaryDirectory(prefix="tofu-against-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder).resolve()


def plan(loops: Sequence[str], seconds: float, then: Path) -> Iterator[Job]:
    """Each case in both trees, one after the other."""
    for case, contender in CASES:
        for loop in loops:
            for when, tree in ((NOW, processes.ROOT), (THEN, then)):
                load = case.load(contender, loop, seconds)
                yield Job(subject(case, contender, loop, when), load, tree)


def subject(case: Case, contender: str, loop: str, when: str) -> Subject:
    """Whose figures they are."""
    return Subject(case.title, f"{contender} {when}", loop)


def verdict(ratio: Spread | None) -> str:
    """What the range of the ratios tells."""
    if ratio is None:
        return "not measured"
    if ratio.lowest == ratio.highest:
        return "one round tells nothing"
    if ratio.lowest <= 1 <= ratio.highest:
        return "within noise"
    return "faster" if ratio.lowest > 1 else "SLOWER"


def table(results: Results, loops: Sequence[str], revision: str) -> str:
    """Both, case by case."""
    rows = []
    for case, contender in CASES:
        for loop in loops:
            now, then = (subject(case, contender, loop, when) for when in (NOW, THEN))
            ratio = results.ratio("rate", now, then)
            rates = [tables.whole(results.spread(which, "rate")) for which in (then, now)]
            name = f"{case.title}, {CONTENDERS[contender].title}"
            rows.append([name, loop, *rates, tables.range_of(ratio), verdict(ratio)])
    columns = ["case", "loop", f"{revision}, echoes/s", "now", "now / then", "verdict"]
    return tables.table(f"Now against {revision}", columns, rows)


def run(revision: str, field: Field, count: int, seconds: float, console: Console) -> int:
    """Compare this tree with that revision; the exit code."""
    results = Results(left_out=field.left_out)
    with tree_of(revision) as then:
        rounds.run(list(plan(field.loops, seconds, then)), count, console, results)
    console.print(table(results, field.loops, revision))
    for line in results.failures:
        console.print(f"FAILED {line}")
    return int(bool(results.failures))

"""After a fork: nothing that a child does affects its parent, and it has none of its duties.

Each case runs in a process of its own, for Python warns of forks beside threads, which a process
that runs tests may have.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import _LOOPS

if sys.platform == "win32":
    pytest.skip("Windows has no fork", allow_module_level=True)

ROOT = Path(__file__).parents[2]
PATIENCE = 250


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tests.forks.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def passes(module: str, *arguments: str) -> None:
    """It succeeds, and prints nothing."""
    ended = run(module, *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def cases(module: str) -> list[str]:
    """The names of a module's cases: it is not imported, for it must be before ``tofu_aio``."""
    for statement in ast.parse(Path(__file__).with_name(f"{module}.py").read_text()).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and "CASES" in ast.dump(statement):
            comprehension = statement.value
            assert isinstance(comprehension, ast.DictComp)
            found = comprehension.generators[0].iter
            assert isinstance(found, ast.Tuple)
            return [case.id for case in found.elts if isinstance(case, ast.Name)]
    raise AssertionError(module)


def run_on(case: str) -> None:
    """From Python 3.14 on a loop in whose midst somebody forks does not run in the child."""
    if sys.version_info >= (3, 14) and case.endswith("by_an_exception"):
        pytest.skip("asyncio's tasks take no step in a child of the loop that ran them")


@pytest.mark.parametrize("case", cases("loops"))
def test_a_loop_and_its_children(case: str) -> None:
    run_on(case)
    passes("loops", case)


@pytest.mark.parametrize("loop", _LOOPS)
@pytest.mark.parametrize("case", cases("conversations"))
def test_an_engine_and_its_children(case: str, loop: str) -> None:
    run_on(case)
    passes("conversations", loop, case)


epoll = pytest.mark.skipif(sys.platform != "linux", reason="this system has no epoll")


@epoll
@pytest.mark.timeout(300)
def test_the_selector_is_right_whenever_a_child_is_forked_and_begins_to_run() -> None:
    passes("selectors")


@epoll
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mistake", ["TellsTheParent", "KeepsTheParents"])
def test_a_planted_mistake_is_found(mistake: str) -> None:
    assert run("selectors", mistake).returncode == 1

"""What CONTRIBUTING.md and SECURITY.md say is so: the sessions, the files, and the Pythons."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
OF_THE_CORE = ast.parse((ROOT / "tests/core/sessions.py").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
WORKFLOWS = sorted(WORKFLOW.parent.glob("*.yml"))

USUAL, OTHER = (
    re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    for part in CONTRIBUTING.split("\nRun these when ")
)


def sessions(tree: ast.Module) -> Iterator[str]:
    """The names of the sessions that a noxfile defines."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            if any(re.match(r"nox\.session\b", decorator) for decorator in decorators):
                yield node.name


def assigned(tree: ast.Module, target: str) -> Any:
    """The literal that a module assigns to a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == target:
            return ast.literal_eval(node.value)
    raise AssertionError(f"noxfile.py assigns nothing to {target}")


def test_every_session_is_described_once() -> None:
    assert sorted(USUAL + OTHER) == sorted([*sessions(NOXFILE), *sessions(OF_THE_CORE)])


def test_what_nox_runs_by_itself_is_what_the_first_table_has() -> None:
    assert assigned(NOXFILE, "nox.options.sessions") == USUAL


def test_sessions_are_found_however_they_are_decorated() -> None:
    text = """
@nox.session
def one(session): ...
@nox.session(python=["3.12"])
def two(session): ...
@cache
def none(): ...
def neither(): ...
"""
    assert list(sessions(ast.parse(text))) == ["one", "two"]


@pytest.mark.parametrize("name", re.findall(r"nox(?: -R)? -s ([\w.-]+)", CONTRIBUTING))
def test_a_session_that_is_run_exists(name: str) -> None:
    assert name.partition("-")[0] in [*sessions(NOXFILE), *sessions(OF_THE_CORE)]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_files_of_the_tests_that_are_named_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", CONTRIBUTING)
    assert named
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []


def test_each_python_is_named_everywhere() -> None:
    pythons = assigned(NOXFILE, "PYTHONS")
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    assert re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE) == pythons
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == pythons[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{pythons[0].replace('.', '')}"
    assert f"from {pythons[0]} to {pythons[-1]}" in CONTRIBUTING


@pytest.mark.skipif(not WORKFLOW.exists(), reason="an sdist has no workflows")
def test_each_python_is_tested_in_ci() -> None:
    tested = [
        re.findall(r'"([^"]+)"', matrix)
        for matrix in re.findall(r"^ *python: \[(.*)\]$", WORKFLOW.read_text("utf-8"), re.MULTILINE)
    ]
    free_threaded = [
        ast.literal_eval(keyword.value)
        for node in ast.walk(NOXFILE)
        if isinstance(node, ast.FunctionDef) and node.name == "free_threaded"
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
        if keyword.arg == "python"
    ]
    assert tested == [assigned(NOXFILE, "PYTHONS"), *free_threaded]


def test_each_python_has_compiled_wheels() -> None:
    """Without the GIL from 3.14 on; cibuildwheel has no 3.13t, which is an experiment."""
    wanted = [f"cp{python.replace('.', '')}" for python in assigned(NOXFILE, "PYTHONS")]
    wanted += [f"{tag}t" for tag in wanted if tag >= "cp314"]
    assert PROJECT["tool"]["cibuildwheel"]["build"] == [f"{tag}-*" for tag in wanted]
    assert PROJECT["tool"]["cibuildwheel"]["environment"] == {"TOFU_AIO_REQUIRE_COMPILED": "1"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.stem)
def test_workflows_name_jobs_and_sessions_that_there_are(workflow: Path) -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    needed = {name for job in jobs.values() for name in job.get("needs", [])}
    assert needed <= set(jobs)
    steps = [step for job in jobs.values() for step in job.get("steps", [])]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    commands = re.findall(
        r"nox(?: --\S+)* -s ([\w. ]+)", "\n".join(s.get("run", "") for s in steps)
    )
    assert commands
    assert {name for names in commands for name in names.split()} <= {*sessions(NOXFILE)}


@pytest.mark.skipif(not WORKFLOW.exists(), reason="an sdist has no workflows")
def test_only_what_was_tried_is_published() -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(WORKFLOW.with_name("release.yml").read_text("utf-8"))["jobs"]
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}
    assert "dist" in jobs["wheels"]["needs"]

"""The programs in folders of their own are short, and say how they are run; some have tests."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.processes import spawn
from tests.conftest import _LOOPS

from .programs import EXAMPLES

FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/README.md"))


def programs(folder: Path) -> list[Path]:
    """The files of a folder, apart from its tests."""
    return [path for path in folder.glob("*.py") if not path.name.startswith("test_")]


def test_all_are_here() -> None:
    assert {folder.name for folder in FOLDERS} == {"blobs", "fleet", "jobs", "telemetry"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_none_is_long(folder: Path) -> None:
    sources = [path.read_text().splitlines() for path in programs(folder)]
    assert sum(map(len, sources)) < 150


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_names_its_programs(folder: Path) -> None:
    told = (folder / "README.md").read_text()
    for path in programs(folder):
        assert path.stem == "interface" or re.search(rf" {path.stem}(\.py|:app)\b", told), path.name


@pytest.mark.parametrize(
    "name",
    [
        "jobs",
        "telemetry",
        pytest.param(
            "blobs",
            marks=pytest.mark.skipif(
                not (find_spec("fastapi") and find_spec("httpx")),
                reason="its tests need them: pip install fastapi httpx",
            ),
        ),
    ],
)
def test_the_tests_of_each_pass_in_a_copy_of_its_folder(name: str, tmp_path: Path) -> None:
    """On every loop, with the plugin, and with nothing of this project's own configuration."""
    assert "python -m pytest" in (EXAMPLES / name / "README.md").read_text()
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name)
    plugins = ["-p", "pytest_tofu_aio", "-p", "no:xdist", "-p", "no:cacheprovider"]
    code, out, err = spawn("-X", "dev", "-m", "pytest", "-v", *plugins, folder=folder).finish()
    assert (code, err) == (0, ""), out
    for loop in _LOOPS:
        assert f"[{loop}] PASSED" in out
    assert "SKIPPED" not in out or find_spec("fastapi") is None

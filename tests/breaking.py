"""Breaking the engine on purpose: a text of its code, and what is put in its place."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What is broken is Python, so it has to run, and not the compiled core in its place.
ENVIRONMENT = {**os.environ, "TOFU_AIO_PURE": "1", "TOFU_EXPECT_CORE": "plain"}


@dataclass(frozen=True)
class Mutation:
    """One way to break the engine: what is said of it, and the text that is replaced."""

    what: str
    old: str
    new: str


def places(mutation: Mutation, root: Path = ROOT) -> list[Path]:
    """The files that have its text, each as often as it has it. It should be one."""
    files = list(root.glob("tofu_aio/**/*.py"))
    return [file for file in files for _ in range(file.read_text("utf-8").count(mutation.old))]


def broken_copy(mutation: Mutation, folder: Path, *names: str) -> None:
    """Copy what is named to a folder, and break it there: nothing here is touched."""
    for name in names:
        source = ROOT / name
        if source.is_dir():
            # What is compiled is not broken by this, so the copy is plain Python.
            ignored = shutil.ignore_patterns("__pycache__", "_compiled*.so", "_compiled*.pyd")
            # By itself it would use a function of Windows that Wine 8 lacks.
            shutil.copytree(source, folder / name, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, folder / name)
    (file,) = places(mutation, folder)
    file.write_text(file.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")

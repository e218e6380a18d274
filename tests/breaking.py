"""Breaking the engine on purpose: a text of its code, and what is put in its place."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
            ignored = shutil.ignore_patterns("__pycache__")
            # By itself it would use a function of Windows that Wine 8 lacks.
            shutil.copytree(source, folder / name, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, folder / name)
    (file,) = places(mutation, folder)
    file.write_text(file.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")

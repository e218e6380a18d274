"""Compiles the core of a copy of this package, changed or with other flags."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path("tofu_aio", "core")


def copied(to: Path) -> Path:
    """Copy the package and its tests, without what was compiled."""
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__")
    for folder in ("tofu_aio", "tests"):
        shutil.copytree(ROOT / folder, to / folder, ignore=ignored)
    for name in ("pyproject.toml", "pytest_tofu_aio.py"):
        shutil.copyfile(ROOT / name, to / name)
    return to


def compile_in(copy: Path, *flags: str) -> None:
    """Compile the core of a copy, beside its source.

    Raises:
        CalledProcessError: it does not compile.
    """
    source = copy / FOLDER / "_compiled.pyx"
    translated = source.with_suffix(".c")
    built = source.with_name(f"_compiled{sysconfig.get_config_var('EXT_SUFFIX')}")
    subprocess.run([sys.executable, "-m", "cython", "-3", source, "-o", translated], check=True)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = f"-I{sysconfig.get_path('include')}"
    command = [*compiler, "-shared", "-fPIC", "-O1", "-w", "-fno-strict-aliasing", include, *flags]
    subprocess.run([*command, translated, "-o", built], check=True)


def run_tests(copy: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a copy, with its compiled core."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=copy,
        env={**os.environ, "TOFU_AIO_PURE": "0", "TOFU_EXPECT_CORE": "compiled", **environment},
        capture_output=True,
        text=True,
        check=False,
    )

"""What the benchmarks share: processes, what they hold, and how it is told and drawn."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

ROOT = Path(__file__).parents[2]
"""The folder of the project."""

FOLDER = ROOT / "docs" / "design"
"""Where plots go unless the user says otherwise."""

MIB = 1024 * 1024


def start(
    module: str,
    *arguments: object,
    package: str = "tests.benchmarks",
    tree: Path = ROOT,
    errors: IO[str] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """A module of this folder as a process, with pipes to its stdin and from its stdout.

    Args:
        module: its name.
        arguments: of its command line.
        package: of another folder, if it is there.
        tree: the folder whose tofu_aio it imports.
        errors: where its stderr goes; by default where ours does.
        environment: variables that it has besides ours.
    """
    # -P: else the working folder would come before the tree.
    command = [sys.executable, "-P", "-m", f"{package}.{module}", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join(map(str, (tree, ROOT))),
        },
    )


PURE = "TOFU_AIO_PURE"
"""The variable that forces plain Python."""

CORE = "tofu_aio.core._compiled"
"""The module that plain Python does not import."""


def why_plain() -> str:
    """Why only plain Python can run here; "" if the compiled core can."""
    if os.environ.get(PURE, "0") not in {"", "0"}:
        return f"{PURE} is set; only plain Python runs"
    if find_spec(CORE) is None:
        return "no compiled core is installed; only plain Python runs"
    return ""


def variant(compiled: bool) -> dict[str, str]:
    """The environment of a process that runs on the compiled core, or on plain Python."""
    return {PURE: "0" if compiled else "1"}


def check_variant() -> None:
    """End this process if it does not run what its environment says: a core that cannot be loaded
    leaves plain Python, and what is measured would have the wrong name."""
    wanted, runs = os.environ.get(PURE) == "0", CORE in sys.modules
    if wanted != runs:
        names = {True: "the compiled core", False: "plain Python"}
        sys.exit(f"this process runs {names[runs]}, and not {names[wanted]}")


def next_line(process: subprocess.Popen[str]) -> str:
    """What it says next.

    Raises:
        RuntimeError: it has ended instead.
    """
    line = _pipe(process.stdout).readline().strip()
    if not line:
        raise RuntimeError(f"{process.args!r} ended early: see what it wrote to stderr")
    return line


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Say something to it."""
    pipe = _pipe(process.stdin)
    pipe.write(f"{line}\n")
    pipe.flush()


def allow_descriptors() -> None:
    """Let this process have as many as the system gives it."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def rest(process: subprocess.Popen[str]) -> str:
    """End its stdin, and return all that it still says until it ends."""
    _pipe(process.stdin).close()
    told = _pipe(process.stdout).read()
    process.wait()
    return told


def resident(process: subprocess.Popen[str]) -> float | None:
    """MiB of memory that it has in RAM now; None once it has ended."""
    import psutil

    try:
        size: int = psutil.Process(process.pid).memory_info().rss
    except psutil.NoSuchProcess:
        return None
    return size / MIB if size else None  # a zombie has none


def peak(process: subprocess.Popen[str]) -> float:
    """MiB of memory that it has had in RAM at the most; Linux tells, nobody else does."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def end(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Let none of them live on."""
    ending = list(processes)
    for process in ending:
        process.kill()
    for process in ending:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not written yet
                    pipe.close()


def machine() -> str:
    """What the figures were measured on."""
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table for the documentation; the first column is words, the others are figures."""
    lines = [columns, ["---"] + ["--:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_json(path: Path, what: dict[str, Any]) -> None:
    """Keep all that was measured, with where and how."""
    told = {"machine": machine(), "command": " ".join(sys.argv[1:]), **what}
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def figure(panels: int, title: str) -> tuple[Any, Any]:
    """A matplotlib figure with panels side by side."""
    import matplotlib as mpl

    mpl.use("svg")
    # Letters as letters and no dates: small files, and a new run changes only what is new.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tofu", "font.size": 9})
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(1, panels, figsize=(10, 4), sharey=True, layout="constrained")
    drawn.suptitle(title)
    for panel in axes if panels > 1 else [axes]:
        panel.grid(alpha=0.3)
    return drawn, axes


def write_svg(drawn: Any, path: Path) -> None:
    """Keep the figure."""
    drawn.savefig(path, metadata={"Date": None})
    # matplotlib leaves blanks at the ends of lines.
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(map(str.rstrip, text.splitlines())) + "\n", encoding="utf-8")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe

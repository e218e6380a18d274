"""Make wheels from an sdist, and try them: ``python -m tests.wheels DIST [TAG]``.

DIST is a folder with the sdist and the plain wheel, as ``nox -s dist`` makes it. From the sdist it
makes the compiled wheel of this Python, unless TOFU_AIO_PURE is set, and the wheel that is made
without a compiler, which has to be the plain one. ``tests.release`` looks at all of them, and each
is used as a user does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.release import problems

ROOT = Path(__file__).parents[1]
PURE = os.environ.get("TOFU_AIO_PURE", "") not in {"", "0"}


def run(*command: str, cwd: Path, **env: str) -> str:
    """Run a command, and return what it has printed; the exit code has to be 0."""
    print("+", *command, flush=True)
    environment = {**os.environ, "TOFU_AIO_PURE": "0", "PYTHONUTF8": "1", **env}
    kinds = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    ended = subprocess.run(command, cwd=cwd, env=environment, check=False, **kinds)
    if ended.returncode:
        sys.exit(f"{ended.stdout}\nexit code {ended.returncode}")
    return ended.stdout


def wheel_from(sdist: Path, folder: Path, **env: str) -> tuple[Path, str]:
    """Build the wheel of this Python into a folder, and return it with what pip said."""
    pip = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--wheel-dir", "."]
    folder.mkdir()
    said = run(*pip, str(sdist), cwd=folder, **env)
    (wheel,) = folder.glob("*.whl")
    return wheel, said


def check_without_compiler(sdist: Path, plain: Path, folder: Path) -> None:
    """Without a compiler the plain wheel is built, to the byte, and one line says so."""
    wheel, said = wheel_from(sdist, folder, CC="no-such-compiler", TOFU_AIO_REQUIRE_COMPILED="0")
    (line,) = re.findall(r"tofu_aio: built as plain Python, for .*no-such-compiler.*", said)
    print(line)
    if wheel.read_bytes() != plain.read_bytes():
        sys.exit(f"without a compiler, {wheel.name} is not the plain wheel")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Use a wheel from where nothing of this folder is found; first without extras."""
    run(sys.executable, "-m", "venv", str(folder), cwd=ROOT)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    python, tofu = str(scripts / "python"), str(scripts / "tofu")
    compiled = not wheel.name.endswith("-none-any.whl")
    core = f"import tofu_aio; assert tofu_aio.__compiled__ is {compiled}"
    run(python, "-m", "pip", "install", "--quiet", str(wheel), cwd=folder)
    run(python, "-I", "-c", core, cwd=folder)
    run(python, "-I", str(ROOT / "examples" / "both_ways.py"), cwd=folder)
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[cli]", cwd=folder)
    print(run(python, "-m", "tofu_aio", "doctor", cwd=folder))
    print(run(tofu, "demo", "--messages", "1000", cwd=folder))


def main() -> None:
    """Make the wheels, and stop at the first thing that is wrong."""
    dist, *tag = sys.argv[1:]
    (sdist,), (plain,) = Path(dist).resolve().glob("*.gz"), Path(dist).resolve().glob("*.whl")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        wheels = [plain]
        if sys.platform != "win32":  # its compiler knows no CC
            check_without_compiler(sdist, plain, folder / "without")
        if not PURE:
            compiled = wheel_from(sdist, folder / "with", TOFU_AIO_REQUIRE_COMPILED="1")[0]
            wheels.append(compiled)
        if found := list(problems([sdist, *wheels], tag[0] if tag else None)):
            sys.exit("\n".join(found))
        for wheel in wheels:
            try_wheel(wheel, folder / f"venv-{wheel.stem}")


if __name__ == "__main__":
    main()

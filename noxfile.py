"""One session for each check. ``nox --list`` shows all; ``nox`` runs those marked with ``*``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests", "simulate", "windows", "docs", "dist", "model"]

# Where the versions of the tools are: editors and other installers read them there as well.
PROJECT = nox.project.load_toml("pyproject.toml")

# A command that takes Python's own arguments and has the packages of the extra "test".
WINDOWS_PYTHON = os.environ.get("TOFU_WINDOWS_PYTHON", "")

# The tests wait for half of their time.
WORKERS = str((os.cpu_count() or 1) + 1)

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
# With TOFU_SHORT set, as for `.ci/run`, the Pythons between the oldest and the newest run only what
# has differed from one to the next, or counts on what may.
SHORT = bool(os.environ.get("TOFU_SHORT"))
DIFFERING = [
    "tests/reactor",  # asyncio's private insides, and programs and libraries on our loop
    "tests/conformance",  # what the standard library asks of selectors
    "tests/blocking",  # threads, signals, forks and how an interpreter ends
    "tests/forks",
    "tests/faults/test_leaving.py",  # the same for a program with an engine
    "tests/cli/test_running.py",
    "tests/messaging/delivery/test_wake_up.py",  # a future's private callbacks
    "tests/messaging/threads/test_call_queue.py",  # threads beside a loop
    "tests/messaging/test_anyio_contract.py",  # cancellation by task groups and time-outs
    "tests/transport/test_happy_eyeballs.py",
    "tests/transport/test_tls.py",  # ssl and its OpenSSL
    "tests/simulated/test_transports.py",  # asyncio's transports on simulated sockets
    "tests/protocol/test_account.py",  # what is one step for other threads
]
# And what tries whole programs for seconds each, or the tests themselves, only the newest runs.
ONCE = ["tests/attacks", "tests/soak", "tests/test_benchmarks.py"]
PLANTED = "planted_mistake"
# What no wheel is for yet is left out: uvloop, and the web frameworks. TLS's tests are skipped
# where cryptography has none. Newer versions of hypothesis are compiled, and not for these.
FREE_THREADED = [
    "hypothesis<6.140",
    "psutil>=7",
    "pytest>=8.4",
    "pytest-asyncio>=1.4",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "sybil>=9",
]
FREE_THREADED_TESTS = [
    "tests/protocol",
    "tests/reactor",
    "tests/conformance",
    "tests/transport",
    "tests/messaging",
    "tests/blocking",
    "tests/cli",
    "tests/simulated",
    "tests/faults/test_floods.py",
    "tests/faults/test_leaving.py",
]
SOURCES = [
    "tofu_aio",
    "tests",
    "examples",
    "docs/conf.py",
    "docs/diagrams.py",
    "docs/site_extension.py",
    "noxfile.py",
]
# Under Wine all the tests take long: usually a part is run, each day another.
WINDOWS_PARTS = 3


def group(name: str) -> tuple[str, ...]:
    """What a dependency group of pyproject.toml requires."""
    return nox.project.dependency_groups(PROJECT, name)


def python_of(folder: Path) -> str:
    """The interpreter of a virtual environment."""
    return str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Set up ``.venv`` for an editor: this package, and the packages for tests, checks and docs."""
    python = python_of(Path(".venv"))
    if not Path(python).exists():
        session.run(sys.executable, "-m", "venv", ".venv", external=True)
    packages = ["--editable", ".[test,docs]", *group("dev")]
    session.run(python, "-m", "pip", "install", "--quiet", *packages, external=True)
    session.log(f"select {python} as your editor's interpreter, and pytest for tests")
    session.log(f"a first test: {python} -X dev -m pytest tests/protocol")


@nox.session
def demo(session: nox.Session) -> None:
    """Send a file and a burst of requests between two processes: ``nox -s demo -- FILE``."""
    session.install(".[cli,fast]")
    session.run("tofu", "demo", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install(*group("lint"))
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, for each system that the code knows."""
    session.install(*group("types"), ".[cli]")
    for platform in ("linux", "darwin", "win32"):
        session.run("mypy", "--platform", platform)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, on every loop that is installed: ``nox -s tests-3.12 -- -k pool``."""
    session.install(".[test]")
    # What users get, before what is in this folder: the installed package is whole.
    session.run("python", "-I", "-m", "tofu_aio", "doctor", silent=True)
    tests = list(session.posargs)
    if SHORT and not tests and session.python != PYTHONS[-1]:
        tests = [f"--ignore={path}" for path in ONCE] + ["-k", f"not {PLANTED}"]
        if session.python != PYTHONS[0]:
            tests += DIFFERING
    arguments = ["-n", WORKERS, "--dist", "worksteal", *tests]
    session.run("python", "-X", "dev", "-m", "pytest", *arguments, env={"COLUMNS": "100"})


@nox.session(python=["3.13t", "3.14t", "3.15t"])
def free_threaded(session: nox.Session) -> None:
    """The tests on Pythons without the GIL: ``nox -s free_threaded-3.13t -- tests/protocol``."""
    session.install(".[cli]", *FREE_THREADED)
    session.install("--only-binary", ":all:", "trustme>=1.2", success_codes=[0, 1])
    tests = session.posargs or FREE_THREADED_TESTS
    arguments = ["-n", WORKERS, "--dist", "worksteal", *tests]
    # An extension that says nothing of threads would switch the GIL on.
    env = {"COLUMNS": "100", "PYTHON_GIL": "0"}
    session.run("python", "-X", "dev", "-m", "pytest", *arguments, env=env)


@nox.session(python=PYTHONS)
def conformance(session: nox.Session) -> None:
    """CPython's own tests of selectors and of asyncio, beside the stock loop; some minutes."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", "-q", "tests/conformance")
    session.run("python", "-m", "tests.conformance.asyncio_suite", *session.posargs)


@nox.session(python=PYTHONS)
def interrupts(session: nox.Session) -> None:
    """Every blocking call, interrupted at every point; some minutes."""
    session.install(".[test]")
    tests = ["tests/blocking/test_interrupts.py", "--timeout", "900", *session.posargs]
    environment = {"TOFU_INTERRUPT_EVERY": "1"}
    session.run("python", "-m", "pytest", "-q", "-n", WORKERS, *tests, env=environment)


@nox.session
def faults(session: nox.Session) -> None:
    """Cut connections at every byte, cancel at every step, connect 10,000 times; half an hour."""
    session.install(".[test]")
    tests = session.posargs or ["tests/faults"]
    session.run("python", "-X", "dev", "-m", "pytest", "-q", *tests, env={"TOFU_FAULTS": "full"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random bytes for a listener; the number of examples per loop: ``nox -s fuzz -- 100000``."""
    session.install(".[test]")
    examples = session.posargs[0] if session.posargs else "10000"
    session.run(
        "python",
        "-X",
        "dev",
        "-m",
        "pytest",
        "-q",
        "tests/faults/test_fuzz.py",
        "tests/faults/test_fuzz_tls.py",
        "tests/faults/test_fuzz_callbacks.py",
        env={"TOFU_FUZZ_EXAMPLES": examples},
    )


@nox.session
def simulate(session: nox.Session) -> None:
    """The engine in simulated networks, one per seed; only one: ``nox -s simulate -- --seed 7``.

    Without arguments they are 2,000 that the commit's hash decides, and those that failed once.
    """
    session.install(".")
    session.run("python", "-m", "tests.simulated", *(session.posargs or ["--drawn"]))


@nox.session
def windows(session: nox.Session) -> None:
    """A third of the tests on Windows, another one each day; all: ``nox -s windows -- --all``.

    Elsewhere than on Windows it runs through the command in TOFU_WINDOWS_PYTHON. Other arguments
    are pytest's: ``-- tests/messaging``, or ``-- --shard 0/3`` for the first part.
    """
    command = ["python"] if sys.platform == "win32" else shlex.split(WINDOWS_PYTHON)
    if not command:
        session.skip("not on Windows, and TOFU_WINDOWS_PYTHON names no Python for it")
    if sys.platform == "win32":
        session.install(".[test]")
    pytest = [*command, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.shards"]
    # There a test that takes too long ends the whole run: none should that is only slow.
    pytest += ["--timeout", "240"]
    if session.posargs not in ([], ["--all"]):
        session.run(*pytest, *session.posargs, external=True)
        return
    parts = list(range(WINDOWS_PARTS))
    if not session.posargs:
        today = datetime.now(UTC).date()
        parts = [today.toordinal() % WINDOWS_PARTS]
        session.log(f"of the tests on {today}: part {parts[0]}/{WINDOWS_PARTS}")
    # Each part in halves side by side, for one run under Wine keeps to one processor.
    halves = [part + half for part in parts for half in (0, WINDOWS_PARTS)]

    def run(number: int) -> None:
        env = {"TOFU_WINE_CPU": str(number // WINDOWS_PARTS)}
        shard = f"--shard={number}/{2 * WINDOWS_PARTS}"
        print(session.run(*pytest, shard, external=True, env=env, silent=True))

    with ThreadPoolExecutor(2) as both:
        list(both.map(run, halves))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into ``site``; a warning is an error."""
    session.install(".[docs,test]")
    session.run("python", "-m", "sphinx", "--fresh-env", "--fail-on-warning", "docs", "site")
    # And a broken link does end the build, for each kind of link.
    session.run("python", "-m", "pytest", "-q", "tests/test_site.py")


@nox.session
def dist(session: nox.Session) -> None:
    """Build and test the sdist and the wheel, in ``dist``; for a tag: ``-- v1.2.3``."""
    session.install(*group("dist"))
    folder = Path("dist")
    shutil.rmtree(folder, ignore_errors=True)
    # The wheel is built from the sdist, so that is whole.
    session.run("python", "-m", "build", "--outdir", str(folder))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    session.run("python", "-m", "tests.release", str(folder), *session.posargs)
    # As a user gets it, and from where nothing of this folder is found; first without extras.
    fresh = Path(session.create_tmp(), "fresh").resolve()
    session.run("python", "-m", "venv", "--clear", str(fresh))
    python, package = python_of(fresh), str(wheel.resolve())
    example = Path("examples", "both_ways.py").resolve()
    with session.chdir(fresh):
        session.run(python, "-m", "pip", "install", "--quiet", package, external=True)
        session.run(python, "-I", str(example), external=True)
        session.run(python, "-m", "pip", "install", "--quiet", f"{package}[cli]", external=True)
        session.run(python, "-m", "tofu_aio", "doctor", external=True)
        tofu = str(Path(python).with_name("tofu"))
        session.run(tofu, "demo", "--messages", "1000", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare speed with other libraries, or with a revision: ``nox -s bench -- --against REV``."""
    session.install(".[bench]")
    session.run("python", "-m", "tests.benchmarks.run", *session.posargs)
    if "--against" not in session.posargs:
        session.run("python", "-m", "tests.benchmarks.costs")


@nox.session
def memory(session: nox.Session) -> None:
    """Measure memory: a flood, a greedy channel, 10,000 idle channels, ordinary programs.

    One of them: ``nox -s memory -- flood``.
    """
    session.install(".[bench]")
    for benchmark in session.posargs or ["flood", "fairness", "idle", "bound"]:
        session.run("python", "-m", f"tests.benchmarks.{benchmark}")


@nox.session
def compiled(session: nox.Session) -> None:
    """Measure whether compiling the hot path would pay: ``nox -s compiled -- --rounds 9``."""
    session.install(".[bench]", "mypy[mypyc]>=1.18", "setuptools")
    session.run("python", "-m", "tests.benchmarks.compiled", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Random faults between real processes, on every loop: ``nox -s soak -- --minutes 60``."""
    session.install(".[test]")
    session.run("python", "-m", "tests.soak.run", *session.posargs)


@nox.session
def attack(session: nox.Session) -> None:
    """What hostile peers cost, on each loop: ``nox -s attack -- key-updates --loop asyncio``."""
    session.install(".[test]")
    session.run("python", "-m", "tests.attacks", *session.posargs)


@nox.session(venv_backend="none")
def model(session: nox.Session) -> None:
    """Check models of reactor and pool exhaustively: ``nox -s model -- --show "DEL may wait"``."""
    if not shutil.which("spin") or not any(map(shutil.which, ("cc", "gcc", "clang"))):
        session.skip("it needs spin (https://spinroot.com, apt install spin) and a C compiler")
    session.run(sys.executable, "tests/model/matrix.py", *session.posargs, external=True)


if __name__ == "__main__":
    sys.exit("run me with nox: python -m nox")

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

sys.path.insert(0, str(Path(__file__).parent))
from tests.core.sessions import COMPILED, lacking_to_compile

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
# Which core a session runs: the compiled one, unless TOFU_AIO_PURE=1 is set. Then all sessions are
# of plain Python, and need no compiler. tests/conftest.py compares what is expected with what runs.
PURE = os.environ.get("TOFU_AIO_PURE", "") not in {"", "0"}
PLAIN = {"TOFU_AIO_PURE": "1", "TOFU_EXPECT_CORE": "plain"}
# With TOFU_SHORT set, as for `.ci/run`, every test runs on both cores, but not on every Python: on
# the oldest with plain Python, and on the newest with the compiled core. Those between have it as
# well, and run only what has differed from one to the next, or counts on what may. `types`, `docs`
# and `windows` are always of plain Python: Wine has no compiler.
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
# What tries whole programs for seconds each, or the tests themselves, only the newest runs. With
# plain Python, the oldest runs a part of it, another one each day.
ONCE = [
    "tests/attacks",
    "tests/examples",
    "tests/faults/test_churn.py",
    "tests/faults/test_hostile.py",
    "tests/network/test_networks.py",
    "tests/simulated/test_calls.py",
    "tests/simulated/test_running.py",
    "tests/simulated/test_scenarios.py",
    "tests/soak",
    "tests/test_benchmark_variants.py",
    "tests/test_benchmarks.py",
    "tests/test_invariants.py",
    "tests/test_pytest_plugin.py",
]
PLANTED = "planted_mistake"
# uvloop and nkeys are left out, which have no wheels for these yet, not even plain ones. Tests of
# TLS are skipped where cryptography has none, and those of services on 3.13, where msgspec does not
# compile. Newer versions of hypothesis are compiled, and not for these.
FREE_THREADED = [
    "aiohttp>=3.12",
    "hypothesis<6.140",
    "msgspec>=0.23; python_version >= '3.14'",
    "nats-py>=2.15",
    "psutil>=7",
    "pytest>=8.4",
    "pytest-asyncio>=1.4",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "sybil>=9",
    "uvicorn>=0.36",
    "websockets>=15",
]
FREE_THREADED_TESTS = [
    "tests/core",
    "tests/test_core_choice.py",
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
    "pytest_tofu_aio.py",
    "tests",
    "examples",
    "docs/conf.py",
    "docs/diagrams.py",
    "docs/site_extension.py",
    "hatch_build.py",
    "noxfile.py",
]
# Of all tests under Wine, and of ONCE with plain Python, a part is run, each day another.
WINDOWS_PARTS = 8
ONCE_PARTS = 8


def group(name: str) -> tuple[str, ...]:
    """What a dependency group of pyproject.toml requires."""
    return nox.project.dependency_groups(PROJECT, name)


def install(session: nox.Session, *extras: str, plain: bool = PURE) -> bool:
    """Install this package so that the session runs one core; the compiled one beside its source.

    Tests and benchmarks are run from this folder, so what they import is what is in it. Returns
    whether it is the compiled one, which it can only be where there is a C compiler.
    """
    if not plain and (lacking := lacking_to_compile(session)):
        session.warn(f"the core cannot be compiled here for want of {lacking}")
        plain = True
    session.env.update(PLAIN if plain else COMPILED)
    session.log("the core is %s", "plain Python" if plain else "compiled")
    extra = f"[{','.join(extras)}]" if extras else ""
    session.install(*([] if plain else ["--editable"]), f".{extra}")
    return not plain


def part_of_today(session: nox.Session, parts: int) -> int:
    """Which part of some tests to run today, for there are too many for each day."""
    today = datetime.now(UTC).date()
    part = today.toordinal() % parts
    session.log(f"of the tests on {today}: part {part}/{parts}")
    return part


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
    install(session, "test", plain=True)
    session.install(*group("types"))
    for platform in ("linux", "darwin", "win32"):
        session.run("mypy", "--platform", platform)
    for readme in sorted(Path("examples").glob("*/README.md")):  # modules of each have short names
        session.run("mypy", *map(str, sorted(readme.parent.glob("*.py"))))
    session.run("python", "-m", "pytest", "-q", "tests/typed")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, on every loop that is installed: ``nox -s tests-3.12 -- -k pool``."""
    tests = list(session.posargs)
    short = SHORT and not tests
    oldest, newest = session.python == PYTHONS[0], session.python == PYTHONS[-1]
    install(session, "test", plain=PURE or (short and oldest))
    # What users get, before what is in this folder: the installed package is whole.
    session.run("python", "-I", "-m", "tofu_aio", "doctor", silent=True)
    if short and not newest:
        tests = [f"--ignore={path}" for path in ONCE] + ["-k", f"not {PLANTED}"]
        if not oldest:
            tests += DIFFERING
    pytest = ["python", "-X", "dev", "-m", "pytest", "-n", WORKERS, "--dist", "worksteal"]
    session.run(*pytest, *tests, env={"COLUMNS": "100"})
    if short and oldest:
        part = part_of_today(session, ONCE_PARTS)
        session.run(*pytest, "-p", "tests.shards", f"--shard={part}/{ONCE_PARTS}", *ONCE)


@nox.session(python=["3.13t", "3.14t", "3.15t"])
def free_threaded(session: nox.Session) -> None:
    """The tests on Pythons without the GIL: ``nox -s free_threaded-3.13t -- tests/protocol``."""
    install(session, "cli")
    session.install(*FREE_THREADED)
    session.install("--only-binary", ":all:", "trustme>=1.2", success_codes=[0, 1])
    tests = session.posargs or FREE_THREADED_TESTS
    arguments = ["-n", WORKERS, "--dist", "worksteal", *tests]
    # An extension that says nothing of threads would switch the GIL on.
    env = {"COLUMNS": "100", "PYTHON_GIL": "0"}
    session.run("python", "-X", "dev", "-m", "pytest", *arguments, env=env)


@nox.session(python=PYTHONS)
def conformance(session: nox.Session) -> None:
    """CPython's own tests of selectors and of asyncio, beside the stock loop; some minutes."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-q", "tests/conformance")
    session.run("python", "-m", "tests.conformance.asyncio_suite", *session.posargs)


@nox.session(python=PYTHONS)
def interrupts(session: nox.Session) -> None:
    """Every blocking call, interrupted at every point; some minutes."""
    install(session, "test")
    tests = ["tests/blocking/test_interrupts.py", "--timeout", "900", *session.posargs]
    environment = {"TOFU_INTERRUPT_EVERY": "1"}
    session.run("python", "-m", "pytest", "-q", "-n", WORKERS, *tests, env=environment)


@nox.session
def faults(session: nox.Session) -> None:
    """Cut connections at every byte, cancel at every step, connect 10,000 times; half an hour."""
    install(session, "test")
    tests = session.posargs or ["tests/faults"]
    session.run("python", "-X", "dev", "-m", "pytest", "-q", *tests, env={"TOFU_FAULTS": "full"})


@nox.session
def network(session: nox.Session) -> None:
    """Each feature on networks that fail, on each loop, as root; ten minutes."""
    install(session, "test")
    arguments = ["-n", WORKERS, "--timeout", "120", "tests/network", *session.posargs]
    environment = {"TOFU_NETWORK": "full"}
    session.run("python", "-X", "dev", "-m", "pytest", *arguments, env=environment)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random bytes for a listener; the number of examples per loop: ``nox -s fuzz -- 100000``."""
    install(session, "test")
    examples = session.posargs[0] if session.posargs else "10000"
    tests = [f"tests/faults/test_{name}.py" for name in ("fuzz", "fuzz_tls", "fuzz_callbacks")]
    pytest = ["python", "-X", "dev", "-m", "pytest", "-q"]
    session.run(*pytest, *tests, env={"TOFU_FUZZ_EXAMPLES": examples})


@nox.session
def simulate(session: nox.Session) -> None:
    """The engine in simulated networks, one per seed; only one: ``nox -s simulate -- --seed 7``.

    Without arguments they are 1,000 on each core, which the commit's hash decides, and those that
    failed once.
    """
    compiled = install(session, "service")
    simulate = ["python", "-m", "tests.simulated"]
    if session.posargs or not compiled:
        session.run(*simulate, *(session.posargs or ["--drawn"]))
        return
    for env in (COMPILED, PLAIN):
        session.run(*simulate, "--drawn", "--seeds", "1000", env=env)


@nox.session
def windows(session: nox.Session) -> None:
    """An eighth of the tests on Windows, another one each day; all: ``nox -s windows -- --all``.

    Elsewhere than on Windows it runs through the command in TOFU_WINDOWS_PYTHON. Other arguments
    are pytest's: ``-- tests/messaging``, or ``-- --shard 0/4`` for the first part.
    """
    command = ["python"] if sys.platform == "win32" else shlex.split(WINDOWS_PYTHON)
    if not command:
        session.skip("not on Windows, and TOFU_WINDOWS_PYTHON names no Python for it")
    session.env.update(PLAIN)
    if sys.platform == "win32":
        install(session, "test", plain=True)
    pytest = [*command, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.shards"]
    # There a test that takes too long ends the whole run: none should that is only slow.
    pytest += ["--timeout", "240"]
    if session.posargs not in ([], ["--all"]):
        session.run(*pytest, *session.posargs, external=True)
        return
    parts = list(range(WINDOWS_PARTS))
    if not session.posargs:
        parts = [part_of_today(session, WINDOWS_PARTS)]
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
    install(session, "docs", "test", plain=True)
    session.run("python", "-m", "sphinx", "--fresh-env", "--fail-on-warning", "docs", "site")
    # And a broken link does end the build, for each kind of link.
    session.run("python", "-m", "pytest", "-q", "tests/test_site.py")


@nox.session
def dist(session: nox.Session) -> None:
    """Build and test the sdist and wheels, into ``dist`` what is for all systems.

    For a tag: ``nox -s dist -- v1.2.3``.
    """
    session.install(*group("dist"))
    folder = Path("dist")
    shutil.rmtree(folder, ignore_errors=True)
    # The wheel is built from the sdist, so that is whole. It is the one for all systems; those with
    # the compiled core are built by the release's workflow, each on its system.
    session.run("python", "-m", "build", "--outdir", str(folder), env=PLAIN)
    (sdist,), (plain,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    session.run("twine", "check", "--strict", str(sdist), str(plain))
    session.run("python", "-m", "tests.wheels", str(folder), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare speed with other libraries, or with a revision: ``nox -s bench -- --against REV``."""
    install(session, "bench")
    session.run("python", "-m", "tests.benchmarks.run", *session.posargs)
    if "--against" not in session.posargs:
        session.run("python", "-m", "tests.benchmarks.costs")
        session.run("python", "-m", "tests.benchmarks.call_costs")


@nox.session
def scale(session: nox.Session) -> None:
    """A fleet with 10,000 channels in virtual time, with plots: ``nox -s scale``, some minutes."""
    install(session, "bench")
    plots = ("--plots", session.create_tmp())
    session.run("python", "-m", "tests.simulated.fleet_report", *(session.posargs or plots))


@nox.session
def memory(session: nox.Session) -> None:
    """Measure memory: a flood, a greedy channel, 10,000 idle channels, ordinary programs.

    One of them: ``nox -s memory -- flood``.
    """
    install(session, "bench")
    for benchmark in session.posargs or ["flood", "fairness", "idle", "bound"]:
        session.run("python", "-m", f"tests.benchmarks.{benchmark}")


@nox.session
def soak(session: nox.Session) -> None:
    """Random faults between real processes, on every loop: ``nox -s soak -- --minutes 60``."""
    install(session, "test")
    session.run("python", "-m", "tests.soak.run", *session.posargs)


@nox.session
def attack(session: nox.Session) -> None:
    """What hostile peers cost, on each loop: ``nox -s attack -- key-updates --loop asyncio``."""
    install(session, "test")
    session.run("python", "-m", "tests.attacks", *session.posargs)


@nox.session(venv_backend="none")
def model(session: nox.Session) -> None:
    """Check models of reactor and pool exhaustively: ``nox -s model -- --show "DEL may wait"``."""
    if not shutil.which("spin") or not any(map(shutil.which, ("cc", "gcc", "clang"))):
        session.skip("it needs spin (https://spinroot.com, apt install spin) and a C compiler")
    session.run(sys.executable, "tests/model/matrix.py", *session.posargs, external=True)


if __name__ == "__main__":
    sys.exit("run me with nox: python -m nox")

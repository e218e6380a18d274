"""The sessions of nox for the compiled core, which need a compiler; see ``noxfile.py``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

COMPILED = {
    "TOFU_AIO_PURE": "0",
    "TOFU_AIO_REQUIRE_COMPILED": "1",
    "TOFU_EXPECT_CORE": "compiled",
}
"""The environment of a session in which the compiled core has to run."""

REPEATED = [
    *("tests/core", "tests/protocol", "tests/messaging", "tests/blocking", "tests/service"),
    *("tests/transport", "tests/simulated", "tests/testing", "tests/faults"),
    # These leave what is kept for good: os.register_at_fork keeps something for each provider of
    # OpenTelemetry and each set of threads, and click keeps each stream that it has written to.
    "--ignore=tests/service/test_tracing.py",
    "--ignore=tests/transport/test_resolving.py",
    "--ignore=tests/transport/nats/test_programs.py",
]
"""What ``leaks`` repeats: all tests that use the core in their own process."""


def lacking_to_compile(session: nox.Session) -> str:
    """What it takes to compile for the session's Python and is not here; "" if all is."""
    if sys.platform == "win32":  # there setuptools finds the compiler
        return ""
    if not shutil.which(os.environ.get("CC", "cc").split()[0]):
        return "a C compiler"
    program = "import sysconfig; print(sysconfig.get_path('include'), end='')"
    include = session.run("python", "-c", program, silent=True)
    return "" if Path(str(include), "Python.h").is_file() else "Python's C headers"


def _install(session: nox.Session, *packages: str) -> None:
    session.env.update(COMPILED)
    session.install("--editable", ".[test]", *packages)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Tests with address and undefined-behaviour sanitizers: ``nox -s sanitize -- tests/core``."""
    _install(session, "cython>=3.3,<4")
    session.run("python", "-m", "tests.core.sanitizing", *session.posargs)


@nox.session
def leaks(session: nox.Session) -> None:
    """Repeat tests and count what is left: ``nox -s leaks -- tests/core``; half an hour."""
    _install(session)
    pytest = ["python", "-m", "pytest", "-q", "-p", "tests.core.leak_hunting", "--timeout", "900"]
    # With fewer examples than by itself, a test is quick enough to be repeated.
    env = {"TOFU_CORE_EXAMPLES": "100"}
    session.run(*pytest, "-n", str(os.cpu_count() or 1), *(session.posargs or REPEATED), env=env)


@nox.session(python="3.12")
def fuzz_core(session: nox.Session) -> None:
    """Fuzz the compiled decoder, for ten minutes or so many seconds: ``-- 60``."""
    _install(session, "atheris>=3")
    session.run("python", "-m", "tests.core.fuzzing", *session.posargs)


@nox.session
def core_mutations(session: nox.Session) -> None:
    """Plant mistakes into the compiled core and find them; only some: ``-- reserve``."""
    _install(session, "cython>=3.3,<4")
    session.run("python", "-m", "tests.core.mutations", *session.posargs)

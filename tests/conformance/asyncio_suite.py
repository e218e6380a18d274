"""CPython's own tests of asyncio on the reactor's loop, beside the stock loop.

    python -m tests.conformance.asyncio_suite [TEST_MODULE ...]

Runs the interpreter's `test.test_asyncio` twice, each time in a process of its own: as it is, and
with `Loop` wherever it asks for asyncio's selector loop. Prints what fails only on ours, and exits
with 1 if anything does. A test that fails on either side is run again, alone, before it is
believed, because the suite has tests that depend on the machine's mood.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import subprocess
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

from tofu_aio.reactor import Loop, ReactorSelector

SUITE = "test.test_asyncio"
ATTEMPTS = 3


class Substitute(Loop):
    """Our loop where the suite makes asyncio's, over our poller of the kind it asks for."""

    def __init__(self, selector=None):
        super().__init__(_equivalent(selector))


def _equivalent(selector):
    if selector is not None:
        selector.close()
    if isinstance(selector, getattr(selectors, "PollSelector", ())):
        from tofu_aio.reactor.pollers.poll import PollPoller

        return ReactorSelector(PollPoller)
    return None


def substitute():
    """Put our loop in every place from which the suite takes asyncio's selector loop."""
    from asyncio import unix_events

    for module in (asyncio, unix_events):
        module.SelectorEventLoop = Substitute
        if hasattr(module, "EventLoop"):
            module.EventLoop = Substitute
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        unix_events._UnixDefaultEventLoopPolicy._loop_factory = Substitute


def run_here(kind, report, names):
    """Run tests by name in this process; write how many ran and which failed to a file."""
    if kind == "reactor":
        substitute()
    tests = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    ran = result.testsRun - len(result.skipped)
    # A part of a test (`subTest`) stands for the whole.
    failed = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    Path(report).write_text(json.dumps([ran, sorted(failed)]))


def run_apart(kind, names):
    """Run tests by name in a process of their own; return as `run_here` writes."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder, "report"), Path(folder, "log")
        with log.open("w") as output:
            command = [sys.executable, "-m", __spec__.name, "--here", kind, str(report), *names]
            done = subprocess.run(command, stdout=output, stderr=output, check=False)
        if not report.exists():
            raise SystemExit(f"{kind}: exit {done.returncode}\n{log.read_text()[-4000:]}")
        return json.loads(report.read_text())


def failures(kind, names):
    """Return how many tests ran and which fail each time they are tried."""
    ran, failed = run_apart(kind, names)
    for _ in range(1, ATTEMPTS):
        failed = [name for name in failed if run_apart(kind, [name])[1]]
    return ran, failed


def main(names):
    """Compare the two loops; return the exit status."""
    stock_ran, stock_failed = failures("stock", names)
    ran, failed = failures("reactor", names)
    only_ours = sorted(set(failed) - set(stock_failed))
    version = sys.version.split()[0]
    print(f"Python {version}: stock loop {stock_ran} ran, {len(stock_failed)} failed;", end=" ")
    print(f"reactor {ran} ran, {len(failed)} failed, {len(only_ours)} only there")
    for name in only_ours:
        print("  only on the reactor:", name)
    for name in sorted(set(failed) & set(stock_failed)):
        print("  on both:", name)
    return 1 if only_ours or ran < stock_ran else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        run_here(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(main(sys.argv[1:] or [SUITE]))

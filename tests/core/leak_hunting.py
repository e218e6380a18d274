"""A plugin that repeats each test and looks for what grows: ``pytest -p tests.core.leak_hunting``.

After each repetition it counts the living objects of the package, the references to what the core
shares with Python, and the interpreter's blocks of memory. A test leaks, and fails, if one of these
grows again and again: caches fill up once, and what the system or another thread does comes and
goes. With ``TOFU_AIO_PURE=1`` it says whether plain Python leaks the same.
"""

from __future__ import annotations

import gc
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import pytest
from _pytest.fixtures import FixtureDef
from _pytest.runner import CallInfo, runtestprotocol
from hypothesis import settings

from tofu_aio.messaging import handing_over
from tofu_aio.protocol.lifecycle import VERDICTS, State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.status import STATUSES

FEW: Final = 3
"""So many repetitions, after a first one, show whether a test needs a closer look,"""
MANY: Final = 12
"""and so many decide."""
LONGEST: Final = 2.0
"""A test that takes longer than this, in seconds, is not repeated."""
KEPT: Final = 256
"""So many released messages are kept by the core."""

SHARED: Final[dict[str, Any]] = {
    f"references to {name}": value
    for name, value in (
        *vars(handing_over).items(),
        *((f"VERDICTS[{state}]", verdicts) for state, verdicts in VERDICTS.items()),
        *((repr(value), value) for value in (*State, *STATUSES, None, True, False, (), b"")),
    )
    if not name.startswith("__")  # what every module has
}

freeze: Final = gc.freeze


@cache
def label(kind: type) -> str:
    """What the objects of a type are counted as if the type, or a base of it, is the package's."""
    if any(str(base.__module__).partition(".")[0] == "tofu_aio" for base in kind.__mro__):
        return f"living {kind.__module__}.{kind.__qualname__}"
    return ""


Cached: Final = type(label)


def clear_caches() -> None:
    """Clear what would grow for a while: of the interpreter, its library, and this package."""
    re.purge()
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith(("tofu_aio", "urllib")) else ():
            if isinstance(value, Cached):
                value.cache_clear()


def figures() -> Counter[str]:
    """What a test must not let grow. Of living objects only those since the last ``freeze``."""
    for _ in range(3):  # a finalizer may leave something for the next
        gc.collect()
    clear_caches()
    # All that the core keeps are made now, so that one more cannot hide among them.
    messages = [Message(OpCode.SIGNAL) for _ in range(KEPT)]
    messages.clear()
    found = Counter({"blocks of memory": sys.getallocatedblocks()})
    for name, value in SHARED.items():
        found[name] = sys.getrefcount(value)
    for kind in map(type, gc.get_objects()):
        if name := label(kind):
            found[name] += 1
    return found


class Watch:
    """How the figures change from one repetition to the next."""

    def __init__(self) -> None:
        for _ in range(2):  # the figures themselves take memory
            self.last = figures()
        self.changes: Counter[str] = Counter()  # by how much each changed the last time that it did
        self.ups: Counter[str] = Counter()  # how often it has grown, less how often it fell
        self.count = 0

    def look(self) -> None:
        """Compare the figures with those after the last repetition."""
        now = figures()
        for name in {**self.last, **now}:
            if change := now[name] - self.last[name]:
                self.changes[name] = change
                self.ups[name] += 1 if change > 0 else -1
        self.last = now
        self.count += 1

    def leaks(self) -> list[str]:
        """What has grown in nearly every repetition, or fallen, if it is a count of references."""
        return [
            f"{change:+d} {name}"
            for name, change in sorted(self.changes.items())
            if (abs(self.ups[name]) if name in SHARED else self.ups[name]) > 0.75 * self.count
        ]


def hunt(item: pytest.Item) -> list[pytest.TestReport]:
    """Repeat a test as often as it takes, and return the reports of the last time."""

    def repeat() -> list[pytest.TestReport]:
        random.seed(0)  # hypothesis notes each state that it has found
        # What is shared with other tests stays, as if another one of its module or class followed.
        reports = runtestprotocol(item, log=False, nextitem=item.parent)
        item._report_sections.clear()
        item.user_properties.clear()
        return reports

    gc.collect()
    freeze()
    began = time.perf_counter()
    reports = repeat()
    if all(report.passed for report in reports) and time.perf_counter() - began > LONGEST:
        reports[-1].outcome = "skipped"
        reports[-1].longrepr = (*item.location[:2], "it passes, and takes too long to be repeated")
        return reports
    watch = Watch()
    for times in (FEW, MANY):
        for _ in range(times):
            if not all(report.passed for report in reports):
                return reports
            reports = repeat()
            watch.look()
        if not watch.leaks():
            return reports
    found = [f"{watch.count} repetitions, and nearly each leaves something:", *watch.leaks()]
    reports[-1].outcome = "failed"
    reports[-1].longrepr = "\n  ".join(found)
    return reports


def note_once(self: FixtureDef[Any], finalizer: Callable[[], object]) -> None:
    """Keep of what another fixture has to do before this one ends only the last.

    By itself pytest keeps one for each use, until a fixture of the whole run ends.
    """
    if isinstance(finalizer, partial):
        others = [f for f in self._finalizers if getattr(f, "func", None) != finalizer.func]
        self._finalizers[:] = others
    self._finalizers.append(finalizer)


def pytest_configure() -> None:
    # Else what one repetition leaves would be no longer counted after the next.
    gc.freeze = lambda: None
    # Python 3.12 never forgets what is interned, as pathlib does with each part of a path.
    sys.intern = str
    FixtureDef.addfinalizer = note_once
    settings.register_profile("leaks", deadline=None, database=None, derandomize=True)
    settings.load_profile("leaks")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not isinstance(item, pytest.Function):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = hunt(item)
    # The end of what was shared with tests that are all over.
    end = CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), "teardown")
    if end.excinfo is not None:
        reports.append(item.ihook.pytest_runtest_makereport(item=item, call=end))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True

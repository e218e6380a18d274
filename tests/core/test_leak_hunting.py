"""The plugin of the session ``leaks`` finds each kind of leak, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig

import pytest

from tests.core.building import ROOT

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="without the GIL each thread counts references of its own",
)

TESTS = """
import ctypes
import pytest
from tofu_aio.core import counter
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.text_headers import EMPTY_HEADERS

KEPT = []
USES = []

def one_too_many(thing):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

@pytest.fixture(scope="module")
def shared():
    USES.append("began")
    yield USES
    USES.append("ended")

def test_a_message_is_kept():
    KEPT.append(Message(OpCode.SIGNAL))

def test_a_message_has_one_reference_too_many():
    one_too_many(Message(OpCode.SIGNAL))

def test_a_counter_has_one_reference_too_many():
    one_too_many(counter(3))

def test_what_is_shared_is_kept():
    KEPT.append(EMPTY_HEADERS)

def test_what_is_shared_has_one_reference_too_few():
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(EMPTY_HEADERS))

def test_bytes_have_one_reference_too_many():
    one_too_many(bytes(100 + len(KEPT)))

def test_what_is_kept_once(shared):
    shared.append("used")
    if len(KEPT) < 500:
        KEPT.extend(Message(OpCode.SIGNAL) for _ in range(500))

def test_that_is_skipped():
    pytest.skip()

def test_what_is_shared_by_tests_lives_on(shared):
    assert shared == ["began"] + ["used"] * 4

def test_the_third_repetition_fails(times=[]):
    times.append(1)
    assert len(times) < 4
"""

LEAKS = {
    "a_message_is_kept": r"\+1 living tofu_aio\.protocol\.message\.Message",
    "a_message_has_one_reference_too_many": r"\+1 living tofu_aio\.protocol\.message\.Message",
    "a_counter_has_one_reference_too_many": r"\+1 blocks of memory",
    "what_is_shared_is_kept": r"\+1 references to EMPTY_HEADERS",
    "what_is_shared_has_one_reference_too_few": r"-1 references to EMPTY_HEADERS",
    "bytes_have_one_reference_too_many": r"\+1 blocks of memory",
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of those tests."""
    path = tmp_path_factory.mktemp("leaking") / "test_it.py"
    path.write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path)]
    ended = subprocess.run(
        [*command, "-p", "tests.core.leak_hunting"],
        cwd=ROOT,
        env={**os.environ, "PYTHONMALLOC": "pymalloc"},  # another one does not count its blocks
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout


def test_only_leaks_are_found(output: str) -> None:
    found = re.findall(r"^_+ ERROR at teardown of test_(\w+) _+$", output, re.MULTILINE)
    assert found == list(LEAKS), output
    assert "1 failed, 8 passed, 1 skipped, 6 errors" in output


@pytest.mark.parametrize("name", LEAKS)
def test_it_says_what_leaks(output: str, name: str) -> None:
    (said,) = re.findall(rf"of test_{name} _+\n(.*\n(?:  .*\n)+)", output)
    assert re.search(LEAKS[name], said)

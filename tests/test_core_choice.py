"""Which core runs: the compiled one if it is there, unless TOFU_AIO_PURE is set."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import tofu_aio as tofu
from tests.cores import is_outdated, wrong_core
from tofu_aio import core
from tofu_aio.core import choosing, plain

NAME = "tofu_aio.core._compiled"
ELSEWHERE = """
import os, sys
import tofu_aio.core as core
del os.environ["TOFU_AIO_PURE"]
core.__path__[:] = [sys.argv[1]]
print(core.choosing.choose()[1])
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python beside this package."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_session_has_the_core_that_it_is_meant_to_test() -> None:
    assert wrong_core() is None


def test_tests_of_the_wrong_core_do_not_start() -> None:
    wrong = "compiled" if core.WHY_PLAIN else "plain"
    ended = python("-m", "pytest", "--collect-only", __file__, TOFU_EXPECT_CORE=wrong)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"TOFU_EXPECT_CORE is {wrong}, but the core that runs is " in ended.stderr


def test_a_compiled_core_that_is_older_than_its_source_is_not_tested(tmp_path: Path) -> None:
    for name, seconds in {
        "_compiled.pyx": 10,
        "objects.h": 20,
        "queue.pxi": 30,
        "plain.py": 50,
        "_c.so": 40,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert not is_outdated(tmp_path / "_c.so")
    os.utime(tmp_path / "queue.pxi", (60, 60))
    assert is_outdated(tmp_path / "_c.so")


def test_the_log_says_which_core_is_tested() -> None:
    printed = python("-m", "pytest", "--collect-only", __file__).stdout
    here = f"plain Python: {core.WHY_PLAIN}" if core.WHY_PLAIN else "compiled"
    assert f"\ncore: {here}\n" in printed


def test_the_package_says_which_core_runs() -> None:
    assert tofu.__compiled__ is core.COMPILED
    assert tofu.__compiled__ == (core.WHY_PLAIN == "") == (NAME in sys.modules)


@pytest.mark.parametrize("value", ["1", "yes"])
def test_plain_python_is_chosen(value: str) -> None:
    program = "import sys, tofu_aio; print(tofu_aio.__compiled__, tofu_aio.core.WHY_PLAIN)"
    program += f"; print({NAME!r} in sys.modules)"
    ended = python("-c", program, TOFU_AIO_PURE=value)
    assert ended.stdout == "False TOFU_AIO_PURE is set\nFalse\n"


@pytest.mark.parametrize("value", ["", "0"])
def test_plain_python_is_not_chosen(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOFU_AIO_PURE", value)
    assert choosing.choose()[1] != choosing.PURE_IS_SET


@pytest.fixture
def compiled_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but its absence, or a fault, keeps the compiled core from being chosen."""
    monkeypatch.setenv("TOFU_AIO_PURE", "0")


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has the GIL"
)
def test_the_gil_stays_off_with_either_core() -> None:
    program = "import sys, tofu_aio; print(sys._is_gil_enabled())"
    ended = python("-W", "error", "-c", program, PYTHON_GIL="")
    assert ended.stdout == "False\n", ended.stderr


@pytest.mark.usefixtures("compiled_is_wanted")
def test_there_may_be_no_compiled_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "import_module", missing(NAME))
    assert choosing.choose() == (plain, "no compiled core is installed")


@pytest.mark.usefixtures("compiled_is_wanted")
@pytest.mark.parametrize("missing_module", ["tofu_aio.core.other", "libpython"])
def test_what_a_compiled_core_lacks_is_said(
    missing_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "import_module", missing(missing_module))
    with pytest.warns(RuntimeWarning, match=r"compiled core does not load.*Install tofu_aio again"):
        chosen, why = choosing.choose()
    assert (chosen, why) == (plain, f"the compiled core does not load: it lacks {missing_module}")


def missing(module: str) -> object:
    """Return an ``import_module`` that finds something missing."""

    def import_module(name: str) -> ModuleType:
        if name.startswith("_"):
            return importlib.import_module(name)
        assert name == NAME
        raise ModuleNotFoundError(f"it lacks {module}", name=module)

    return import_module


def test_a_compiled_core_that_does_not_load_is_not_hidden(tmp_path: Path) -> None:
    """A real file, which is no extension module: a wheel of another system, say."""
    from importlib.machinery import EXTENSION_SUFFIXES

    (tmp_path / f"_compiled{EXTENSION_SUFFIXES[0]}").write_bytes(b"not for this system")
    ended = python("-c", ELSEWHERE, str(tmp_path), TOFU_AIO_PURE="1")
    assert ended.stdout.startswith("the compiled core does not load: "), ended.stderr
    assert "RuntimeWarning: tofu_aio's compiled core does not load (" in ended.stderr


@pytest.mark.skipif(not tofu.__compiled__, reason="no compiled core is installed")
def test_another_copy_of_the_package_in_the_process_is_plain_python_and_both_work() -> None:
    """As some tools make it that import a package again."""
    ended = python(
        "-c",
        "import asyncio, sys\n"
        "import tofu_aio as first\n"
        "for name in [name for name in sys.modules if name.startswith('tofu_aio')]:\n"
        "    del sys.modules[name]\n"
        "import tofu_aio as second\n"
        "assert first is not second\n"
        "async def echo(channel):\n"
        "    async for request in channel:\n"
        "        await channel.reply(request, request.body)\n"
        "async def main(tofu):\n"
        "    async with tofu.Engine() as engine, engine.create_group() as group:\n"
        "        listener = await group.listen('tcp://127.0.0.1:0')\n"
        "        serving = asyncio.create_task(listener.serve(echo))\n"
        "        async with await group.connect(listener.address) as channel:\n"
        "            assert (await channel.request(b'x')).body == b'x'\n"
        "        serving.cancel()\n"
        "asyncio.run(main(first))\n"
        "asyncio.run(main(second))\n"
        "print(first.__compiled__, second.__compiled__, second.core.WHY_PLAIN)\n",
    )
    assert ended.stdout == f"True False {choosing.ANOTHER_COPY}\n", ended.stderr


SUBINTERPRETER = """
import _interpreters

code = "import tofu_aio.core as core; print('first', core.WHY_PLAIN, flush=True)"
for kind in ("isolated", "legacy"):
    other = _interpreters.create(kind)
    failure = _interpreters.exec(other, code)
    assert failure is None, failure
    _interpreters.destroy(other)
import tofu_aio.core as core
print("then", core.WHY_PLAIN or "compiled")
"""


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="asyncio in a subinterpreter crashes this Python at its exit"
)
@pytest.mark.skipif(not core.COMPILED, reason="no compiled core is installed")
def test_a_subinterpreter_leaves_the_compiled_core_to_the_main_one() -> None:
    ended = python("-W", "error", "-c", SUBINTERPRETER)
    assert ended.stdout.split("\n")[:3] == [
        "first this is a subinterpreter",
        "first this is a subinterpreter",
        "then compiled",
    ], ended.stderr
    assert ended.returncode == 0

"""The policy, in interpreters of its own: asyncio keeps one for the whole process."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tofu_aio.reactor

# asyncio deprecates policies from 3.14 and drops them in 3.16.
POLICIES = sys.version_info < (3, 16)
needs_policies = pytest.mark.skipif(not POLICIES, reason="this asyncio has no policies")


def python(code, *flags):
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_warns_of_nothing_and_asks_for_no_policy():
    code = "import sys, tofu_aio.reactor; print('tofu_aio.reactor.policy' in sys.modules)"
    assert python(code, "-W", "error") == ["False"]


@needs_policies
def test_installed_every_loop_is_a_reactor_loop():
    code = """
import asyncio, tofu_aio.reactor as reactor
reactor.install()
async def kind(): return type(asyncio.get_running_loop()).__name__
print(asyncio.run(kind()), isinstance(asyncio.get_event_loop_policy(), reactor.EventLoopPolicy))
loop = asyncio.new_event_loop()
print(type(loop).__name__)
loop.close()
"""
    assert python(code, "-W", "ignore::DeprecationWarning") == ["Loop", "True", "Loop"]


@needs_policies
def test_the_policy_is_asyncio_s_default_with_other_loops():
    code = """
import asyncio, tofu_aio.reactor as reactor
print(issubclass(reactor.EventLoopPolicy, asyncio.DefaultEventLoopPolicy))
"""
    assert python(code, "-W", "ignore::DeprecationWarning") == ["True"]


@needs_policies
@pytest.mark.skipif(sys.platform == "win32", reason="selector loops have no subprocesses there")
def test_a_subprocess_runs_under_the_policy():
    code = """
import asyncio, sys, tofu_aio.reactor as reactor
reactor.install()
async def main():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('hello')", stdout=asyncio.subprocess.PIPE)
    print((await child.communicate())[0].decode(), child.returncode)
asyncio.run(main())
"""
    assert python(code, "-W", "ignore::DeprecationWarning") == ["hello", "0"]


def test_without_policies_all_but_the_policy_is_there():
    code = """
import asyncio, asyncio.events
for name in ("DefaultEventLoopPolicy", "set_event_loop_policy"):
    vars(asyncio).pop(name, None)
vars(asyncio).pop("__getattr__", None)
import tofu_aio.reactor as reactor
for name in ("EventLoopPolicy", "install"):
    try:
        getattr(reactor, name)
    except AttributeError as error:
        print(str(error).split()[0], "loop_factory=tofu_aio.new_event_loop" in str(error))
print(reactor.run(asyncio.sleep(0, "ran")))
"""
    assert python(code) == ["EventLoopPolicy", "True", "install", "True", "ran"]


def test_other_names_are_missing_as_ever():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        tofu_aio.reactor.nonsense  # noqa: B018

"""Making loops."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tofu_aio.reactor import Loop, factory, loop_factory, new_event_loop, run


async def this_loop():
    return asyncio.get_running_loop()


def test_new_event_loop_makes_reactor_loops():
    loop = new_event_loop()
    assert type(loop) is Loop
    loop.close()


def test_run_runs_on_a_reactor_loop_and_closes_it():
    loop = run(this_loop())
    assert type(loop) is Loop
    assert loop.is_closed()


@pytest.mark.parametrize("debug", [True, False])
def test_run_passes_debug_on(debug):
    async def is_debugging():
        return asyncio.get_running_loop().get_debug()

    assert run(is_debugging(), debug=debug) is debug


def test_run_raises_what_main_raises():
    async def fail():
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        run(fail())


def test_run_refuses_to_nest():
    async def nest():
        coroutine = this_loop()
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                run(coroutine)
        finally:
            coroutine.close()

    run(nest())


@pytest.mark.parametrize("kind", ["reactor", "asyncio"])
def test_own_loops_are_always_there(kind):
    with asyncio.Runner(loop_factory=loop_factory(kind)) as runner:
        assert isinstance(runner.run(this_loop()), Loop) is (kind == "reactor")


@pytest.mark.parametrize("kind", ["uvloop", "winloop"])
def test_a_foreign_loop_is_made_by_its_own_package(monkeypatch, kind):
    class Package:
        new_event_loop = staticmethod(asyncio.new_event_loop)

    monkeypatch.setitem(sys.modules, kind, Package)
    assert loop_factory(kind) is Package.new_event_loop


@pytest.mark.parametrize("kind", ["uvloop", "winloop"])
def test_a_missing_loop_names_the_cause_and_the_cure(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ImportError) as raised:
        loop_factory(kind)
    assert raised.value.name == kind
    assert raised.value.__cause__ is not None
    assert 'pip install "tofu-aio[fast]"' in str(raised.value)
    assert str(raised.value.__cause__) in str(raised.value)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'tokio' is not .*: use one of 'reactor', 'asyncio'"):
        loop_factory("tokio")


@pytest.mark.parametrize("kind", ["uvloop", "winloop"])
def test_auto_takes_the_fastest_that_is_installed(monkeypatch, kind):
    class Package:
        new_event_loop = staticmethod(asyncio.new_event_loop)

    for name in factory._FOREIGN:
        monkeypatch.setitem(sys.modules, name, Package if name == kind else None)
    assert loop_factory("auto") is Package.new_event_loop


def test_auto_falls_back_to_the_reactor(monkeypatch):
    for name in factory._FOREIGN:
        monkeypatch.setitem(sys.modules, name, None)
    assert loop_factory("auto") is new_event_loop

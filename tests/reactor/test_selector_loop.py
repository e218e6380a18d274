"""That this Python's asyncio still has the insides that `selector_loop.py` lists."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import inspect
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tofu_aio
from tests.reactor.private_names import ITEMS, check, turn
from tofu_aio.reactor import Loop
from tofu_aio.reactor.wake_up import WakingLoop

PACKAGE = Path(tofu_aio.__file__).parent
LIST = PACKAGE / "reactor/selector_loop.py"


@pytest.mark.parametrize("name", ITEMS)
def test_asyncio_has_what_is_relied_on(name):
    check(name, asyncio.SelectorEventLoop)


def test_a_change_is_told_in_a_sentence():
    class Changed(asyncio.SelectorEventLoop):
        def stop(self):
            """Forgets to say so."""

    with pytest.raises(pytest.fail.Exception, match=r"asyncio's _stopping\. .* relies .* changed"):
        check("_stopping", Changed)


# The list is whole.


def private(name):
    return name.startswith("_") and not name.startswith("__")


def named_in(tree):
    """Return the private names that are used, and those that are defined or set here."""
    used, given = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()) if private(name):
                used.add(name)
            case ast.Attribute(attr=name, value=ast.Name("self" | "cls")) if private(name):
                given.add(name)
            case ast.Call(ast.Name("getattr" | "hasattr"), [_, ast.Constant(str(name)), *_]) if (
                private(name)
            ):
                used.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if private(name):
                given.add(name)
            case ast.ClassDef(body=body):
                for entry in body:
                    match entry:
                        case ast.AnnAssign(ast.Name(name)) | ast.Assign([ast.Name(name)]):
                            given.add(name)
    return used, given


BEYOND_THE_REACTOR = {
    "_callbacks",  # messaging/waking.py
    "_children",  # testing/deadlock.py
    "_close_self_pipe",  # testing/loop.py, and the next
    "_start_serving",
    "_fut_waiter",  # testing/deadlock.py
}


def listed():
    classes = ast.walk(ast.parse(LIST.read_text("utf-8")))
    return {
        entry.target.id if isinstance(entry, ast.AnnAssign) else entry.name
        for node in classes
        if isinstance(node, ast.ClassDef)
        for entry in node.body
        if isinstance(entry, ast.AnnAssign | ast.FunctionDef)
        if not (isinstance(entry, ast.FunctionDef) and not private(entry.name))
    }


def test_each_item_of_the_list_has_its_test():
    assert listed() | BEYOND_THE_REACTOR <= set(ITEMS)


def test_nothing_private_is_used_that_is_not_listed():
    used, given = set(), set()
    for file in PACKAGE.rglob("*.py"):
        # Those of nats-py are held by tests/transport/nats/test_client.py.
        if file != LIST and file.parent.name != "nats":
            mine, own = named_in(ast.parse(file.read_text("utf-8")))
            used |= mine
            given |= own
    assert used - given - listed() - BEYOND_THE_REACTOR <= {"_getframe", "_is_protocol"}, (
        "those are of sys and typing"
    )


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for kind in (Loop, WakingLoop)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and name != "__init__"
        if hasattr(asyncio.SelectorEventLoop, name)
    ),
)
def test_what_replaces_a_method_takes_all_that_the_method_takes(name):
    """Of the base class's parameters each has its place, or goes where those unknown here go."""
    ours = inspect.signature(getattr(Loop, name)).parameters
    theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
    keywords = any(each.kind is each.VAR_KEYWORD for each in ours.values())
    positions = [each for each in ours.values() if each.kind <= each.POSITIONAL_OR_KEYWORD]
    for at, each in enumerate(theirs.values()):
        if each.kind is each.KEYWORD_ONLY:
            assert each.name in ours or keywords, f"{name} does not take {each}"
        elif each.kind <= each.POSITIONAL_OR_KEYWORD:
            assert at < len(positions), f"{name} does not take {each}"


# What is unknown here is asyncio's.


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("name", ["_add_reader", "_add_writer"])
def test_an_unknown_keyword_is_left_to_asyncio_s_own_method(loop, monkeypatch, name):
    left = []

    def own(self, *given, **more):
        left.append((given, more))

    monkeypatch.setattr(asyncio.SelectorEventLoop, name, own)
    fd = loop._csock.fileno()
    getattr(loop, name)(fd, print, 1, urgent=True)
    assert left == [((fd, print, 1), {"context": None, "urgent": True})]


def test_a_call_soon_that_takes_more_is_asyncio_s_own():
    code = """
import asyncio
own = asyncio.BaseEventLoop.call_soon
def call_soon(self, callback, *args, context=None, urgent=False):
    return own(self, callback, *args, context=context)
asyncio.BaseEventLoop.call_soon = call_soon
import tofu_aio
async def main():
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(done.set, urgent=True)
    await done.wait()
tofu_aio.run(main())
print(tofu_aio.Loop.call_soon is call_soon)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_callback_runs_in_the_context_that_is_given(loop, kind):
    variable = contextvars.ContextVar("variable")
    context = contextvars.Context()
    context.run(variable.set, "given")
    seen = []
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        add = getattr(loop, f"_add_{kind}")
        add(left.fileno(), lambda: (seen.append(variable.get()), loop.stop()), context=context)
        loop.run_forever()
        getattr(loop, f"_remove_{kind}")(left.fileno())
    assert seen == ["given"]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="transports keep contexts since Python 3.15")
def test_a_transport_s_protocol_is_called_in_the_context_it_was_made_in(loop):
    variable = contextvars.ContextVar("variable", default="")
    seen = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            seen.append(variable.get())
            loop.stop()

    async def main():
        variable.set("made in")
        left, right = socket.socketpair()
        transport, _ = await loop.create_connection(Protocol, sock=left)
        return transport, right

    transport, right = loop.run_until_complete(loop.create_task(main()))
    with right:
        right.send(b"x")
        loop.run_forever()
        transport.close()
        turn(loop)
    assert seen == ["made in"]


def test_the_instance_stays_small_enough_for_fast_attributes(loop):
    # What the comment in `Loop.__init__` counts on.
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon_threadsafe(print)
    assert len(vars(loop)) <= 30

"""The names of ``tofu_aio.blocking``: everything that the async API has."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

import tofu_aio as tofu
from tests.extras import needs_msgspec
from tofu_aio import blocking


def test_the_blocking_api_has_everything_that_the_async_one_has() -> None:
    """What is new there is added here as well, or to one of these exceptions."""
    renamed = {"aclose": "close"}
    not_here = {
        "cancel_scope", "cancel_with",  # a thread cannot be cancelled; it calls ``cancelled``
        "wait_draining",  # it could do nothing else meanwhile; it asks for ``draining``
        "send_nowait",  # for one task that serves many channels; a thread has one
        "receive_nowait",  # ``receive(timeout=0)`` only looks as well
        # anyio's
        "extra", "extra_attributes",
    }  # fmt: skip
    for async_api, blocking_api in (
        (tofu.Engine, blocking.Engine),
        (tofu.ChannelGroup, blocking.ChannelGroup),
        (tofu.Channel, blocking.Channel),
        (tofu.Listener, blocking.Listener),
        (tofu.Exchange, blocking.Exchange),
    ):
        there = {name for name in dir(async_api) if not name.startswith("_")} - not_here
        here = {name for name in dir(blocking_api) if not name.startswith("_")}
        here -= {"message_id"}  # an attribute there, a property here
        assert {renamed.get(name, name) for name in there} == here
        for name in there:
            now = renamed.get(name, name)
            if inspect.isfunction(function := getattr(async_api, name)):
                check_options(function, getattr(blocking_api, now))
    for name in ("connect", "reconnecting", "serve"):
        check_options(getattr(tofu, name), getattr(blocking, name))


def options(function: Callable[..., object]) -> dict[str, object]:
    """The names and defaults of a function's parameters, including those of its TypedDict."""
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            kind = parameter.annotation.removeprefix("Unpack[").removesuffix("]")
            found |= dict.fromkeys(inspect.unwrap(function).__globals__[kind].__annotations__)
        else:
            found[name] = parameter.default
    return found


def check_options(async_api: Callable[..., object], blocking_api: Callable[..., object]) -> None:
    """Both have the same options, with the same defaults where both define one."""
    not_here = {"task_status", "task_group", "decide_timeout"}  # a thread cannot be cancelled
    only_here = {"timeout", "loop_factory", "max_threads"}
    there, here = options(async_api), options(blocking_api)
    assert there.keys() - not_here == here.keys() - (only_here - there.keys()), blocking_api
    for name in there.keys() & here.keys():
        if here[name] is not None and there[name] is not None:
            assert here[name] == there[name], (blocking_api, name)


def test_all_names_are_there() -> None:
    assert all(a < b for a, b in pairwise(blocking.__all__))
    for name in {*blocking.__all__} - {"Client"}:
        assert hasattr(blocking, name)


@needs_msgspec
def test_the_client_is_there() -> None:
    assert "Client" in blocking.__all__
    assert hasattr(blocking, "Client")


def test_without_msgspec_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from tofu_aio import blocking\n"
        "blocking.Channel\n"
        "try: blocking.Client\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == (
        "tofu_aio.blocking.Client needs msgspec: install it with pip install 'tofu-aio[service]'"
    )
    with pytest.raises(AttributeError, match="Clients"):
        blocking.Clients  # noqa: B018


def test_importing_starts_no_thread() -> None:
    code = "import threading, tofu_aio.blocking; print(threading.active_count())"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ,
    )
    assert (run.stdout, run.stderr) == ("1\n", "")

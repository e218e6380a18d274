"""The options of connecting and of listening are the same wherever they are given."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints, is_typeddict

import pytest

import tofu_aio as tofu
from tofu_aio import blocking

Function = Callable[..., object]


class Option(NamedTuple):
    """What may be given, and what is taken if it is not."""

    kind: object
    default: object


def options(function: Function, *own: str) -> dict[str, Option]:
    """The keyword-only parameters of a function, but for some of its own."""
    kinds = get_type_hints(function.__init__ if isinstance(function, type) else function)
    return {
        name: Option(kinds[name], parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in own
    }


def all_options(function: Function) -> Any:
    """The TypedDict that stands for the rest of a function's options."""
    (unpacked,) = get_type_hints(function)["options"].__args__
    return unpacked


CONNECT = options(tofu.ChannelGroup.connect)
LISTEN = options(tofu.ChannelGroup.listen)


def test_both_engines_have_the_same_limits() -> None:
    assert options(blocking.Engine, "loop_factory") == options(tofu.Engine)


def test_the_shortcuts_have_the_options_of_the_group() -> None:
    assert options(tofu.connect, "pool_messages") == CONNECT
    assert options(tofu.serve, "decide", "pool_messages", "task_status") == LISTEN


@pytest.mark.parametrize(
    ("which", "there"), [(tofu.ConnectOptions, CONNECT), (blocking.ListenOptions, LISTEN)]
)
def test_the_dictionaries_have_the_options_of_the_group(
    which: type, there: dict[str, Option]
) -> None:
    assert get_type_hints(which) == {name: option.kind for name, option in there.items()}
    assert list(get_type_hints(which)) == list(there), "in the same order"


@pytest.mark.parametrize(
    ("functions", "which"),
    [
        (
            [
                tofu.reconnecting,
                tofu.ChannelGroup.reconnecting,
                blocking.connect,
                blocking.reconnecting,
                blocking.ChannelGroup.connect,
                blocking.ChannelGroup.reconnecting,
            ],
            tofu.ConnectOptions,
        ),
        ([blocking.serve, blocking.ChannelGroup.listen], blocking.ListenOptions),
    ],
)
def test_all_else_takes_the_dictionaries(functions: list[Function], which: type) -> None:
    for function in functions:
        assert all_options(function) is which, function
        assert not set(options(function)) & set(get_type_hints(which)), "none stands twice"


@pytest.mark.parametrize(
    "where",
    [
        tofu.ChannelGroup.connect,
        tofu.ChannelGroup.listen,
        tofu.connect,
        tofu.serve,
        tofu.Engine,
        blocking.Engine,
        tofu.ConnectOptions,
        blocking.ListenOptions,
    ],
)
def test_each_option_is_described_where_it_is_given(where: Any) -> None:
    described = set(re.findall(r"^ +(\w+): ", inspect.getdoc(where) or "", re.MULTILINE))
    named = get_type_hints(where) if is_typeddict(where) else options(where)
    assert set(named) <= described


def test_a_described_default_is_the_default() -> None:
    for which, there in ((tofu.ConnectOptions, CONNECT), (blocking.ListenOptions, LISTEN)):
        for name, number in re.findall(
            r"^ +(\w+): .*; (\d+) by default", which.__doc__ or "", re.MULTILINE
        ):
            assert there[name].default == int(number)

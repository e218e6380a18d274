"""The options of an engine, of connecting and of listening are the same wherever they are given."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, get_type_hints

import pytest

import tofu_aio as tofu
from tofu_aio import blocking
from tofu_aio.messaging.limits import CONNECT_TIMEOUT, HELLO_TIMEOUT, Limits, OtherLimits

Function = Callable[..., object]


class Option(NamedTuple):
    """What may be given, and what is taken if it is not."""

    kind: object
    default: object


def kinds(where: Function) -> dict[str, object]:
    return get_type_hints(where.__init__ if isinstance(where, type) else where)


def options(function: Function) -> dict[str, Option]:
    """The keyword-only parameters of a function."""
    kind = kinds(function)
    return {
        name: Option(kind[name], parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def unpacked(function: Function) -> Any:
    """The TypedDict that stands for the rest of a function's options."""
    (name,) = (
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.VAR_KEYWORD
    )
    (typed_dict,) = kinds(function)[name].__args__  # type: ignore[attr-defined]
    return typed_dict


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            tofu.Engine,
            r"Engine\(\) got .* 'poolbytes': give one of .* joining_bytes, .* pool_bytes,",
        ),
        (blocking.Engine, r"^Engine\(\) got .* 'poolbytes'"),
        (
            partial(tofu.reconnecting, "uds://@x"),
            r"^reconnecting\(\) got .* backoff, .* pool_bytes,",
        ),
        (partial(blocking.reconnecting, "uds://@x"), r"^reconnecting\(\) got"),
        (partial(blocking.connect, "uds://@x"), r"^connect\(\) got .* heartbeat, .* pool_bytes,"),
        (
            partial(blocking.serve, print, "uds://@x"),
            r"^serve\(\) got .* max_channels, .* mode, pool_bytes",
        ),
    ],
)
def test_a_misspelt_option_is_told_with_those_there_are(call: Function, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call(poolbytes=1)


@pytest.mark.parametrize("call", [tofu.ChannelGroup.connect, tofu.ChannelGroup.listen])
def test_a_misspelt_option_is_refused_by_the_call_and_not_by_the_await(call: Function) -> None:
    with pytest.raises(TypeError, match=f"^{call.__name__}.* 'timeot': give one of .*heartbeat"):
        call(None, "uds://@x", timeot=1)


LIMITS = {f.name: Option(get_type_hints(Limits)[f.name], f.default) for f in fields(Limits)}
DEFAULTS = [
    (tofu.EngineOptions, {name: option.default for name, option in LIMITS.items()}),
    (tofu.ConnectOptions, {"timeout": CONNECT_TIMEOUT}),
    (tofu.ListenOptions, {"hello_timeout": HELLO_TIMEOUT}),
]
DICTIONARIES = [which for which, _ in DEFAULTS]


def test_the_engine_s_dictionary_has_the_limits_there_are() -> None:
    kinds = {name: option.kind for name, option in LIMITS.items()}
    assert get_type_hints(tofu.EngineOptions) == kinds


@pytest.mark.parametrize("which", DICTIONARIES)
def test_no_option_is_required(which: type) -> None:
    assert which.__required_keys__ == frozenset()  # type: ignore[attr-defined]


def test_connecting_again_has_those_of_connecting_and_its_own() -> None:
    again = get_type_hints(tofu.ReconnectOptions)
    for name, kind in get_type_hints(tofu.ConnectOptions).items():
        assert again.pop(name) == kind or name in {"headers", "body"}, "those may be functions"
    assert set(again) == {"backoff", "on_failure"}


@pytest.mark.parametrize(
    ("which", "of"),
    [
        (tofu.ClientOptions, tofu.ConnectOptions),
        (tofu.ReconnectingClientOptions, tofu.ReconnectOptions),
        (tofu.ServerOptions, tofu.ListenOptions),
    ],
)
def test_with_an_engine_of_its_own_there_are_those_of_the_engine(which: type, of: type) -> None:
    assert not set(get_type_hints(of)) & set(LIMITS), "or one would be the other's"
    assert get_type_hints(which) == get_type_hints(of) | get_type_hints(tofu.EngineOptions)


@pytest.mark.parametrize(
    ("function", "which"),
    [
        (tofu.Engine, OtherLimits),
        (blocking.Engine, OtherLimits),
        (tofu.ChannelGroup.connect, tofu.ConnectOptions),
        (tofu.ChannelGroup.listen, tofu.ListenOptions),
        (blocking.ChannelGroup.connect, tofu.ConnectOptions),
        (blocking.ChannelGroup.listen, tofu.ListenOptions),
        (tofu.ChannelGroup.reconnecting, tofu.ReconnectOptions),
        (blocking.ChannelGroup.reconnecting, tofu.ReconnectOptions),
        (tofu.connect, tofu.ClientOptions),
        (blocking.connect, tofu.ClientOptions),
        (tofu.reconnecting, tofu.ReconnectingClientOptions),
        (blocking.reconnecting, tofu.ReconnectingClientOptions),
        (tofu.serve, tofu.ServerOptions),
        (blocking.serve, tofu.ServerOptions),
    ],
)
def test_all_else_takes_the_dictionaries(function: Function, which: type) -> None:
    assert unpacked(function) is which
    assert not set(options(function)) & set(get_type_hints(which)), "none stands twice"


def test_both_engines_take_the_size_of_the_pool_without_its_name() -> None:
    for engine in (tofu.Engine, blocking.Engine):
        first = next(iter(inspect.signature(engine).parameters.values()))
        assert (first.name, first.default) == ("pool_messages", LIMITS["pool_messages"].default)
        assert first.kind is first.POSITIONAL_OR_KEYWORD


def described(where: Any) -> set[str]:
    return set(re.findall(r"^ +(\w+): ", inspect.getdoc(where) or "", re.MULTILINE))


@pytest.mark.parametrize("which", DICTIONARIES)
def test_each_option_is_described_where_it_is_defined(which: type) -> None:
    assert set(get_type_hints(which)) <= described(which)


def test_those_of_connecting_again_are_described_where_they_differ() -> None:
    assert described(tofu.ReconnectOptions) == {"headers", "body", "backoff", "on_failure"}


@pytest.mark.parametrize(("which", "defaults"), DEFAULTS)
def test_a_described_default_is_the_default(which: type, defaults: dict[str, object]) -> None:
    entry = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)  # a name, and what it is
    described = {
        name: float(number[1])
        for name, words in entry.findall(inspect.getdoc(which) or "")
        if name in defaults and (number := re.search(r"\b(\d[\d.]*)\s+by\s+default", words))
    }
    assert described
    for name, number in described.items():
        assert defaults[name] == number, name

"""What annotations say, and which functions are refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Annotated, Any, Protocol

import msgspec
import pytest

import tofu_aio as tofu
from tests.service.serving import Job
from tofu_aio.service.signatures import Value, signature_of, signature_of_method


class Database: ...


async def plain(job: Job) -> int: ...


async def nothing() -> None: ...


async def untyped(job): ...  # type: ignore[no-untyped-def]


async def optional(job: Job = Job(1)) -> Job: ...  # noqa: B008


async def watch(query: str) -> AsyncIterator[Job]:
    yield Job(1)


async def watch_generator(query: str) -> AsyncGenerator[Job, None]:
    yield Job(1)


async def watch_untyped(query: str):  # type: ignore[no-untyped-def]
    yield 1


async def store(parts: AsyncIterator[bytes]) -> int: ...


async def store_any(parts: AsyncIterable) -> int: ...  # type: ignore[type-arg]


async def with_resource(database: Database, job: Job, call: tofu.Call) -> int: ...


async def constrained(width: Annotated[int, msgspec.Meta(gt=0)]) -> int: ...


def test_types_of_payload_and_result() -> None:
    told = signature_of(plain, ())
    assert (told.payload, told.required, told.result) == (
        Value(Job, False),
        True,
        Value(int, False),
    )


def test_no_payload() -> None:
    told = signature_of(nothing, ())
    assert (told.payload, told.result, told.order) == (None, Value(type(None), False), ())


def test_without_annotations_anything_goes() -> None:
    told = signature_of(untyped, ())
    assert (told.payload, told.result) == (Value(object, False), Value(object, False))


def test_a_payload_with_a_default_is_optional() -> None:
    assert not signature_of(optional, ()).required


@pytest.mark.parametrize("function", [watch, watch_generator])
def test_a_streamed_result(function: object) -> None:
    assert signature_of(function, ()).result == Value(Job, True)


def test_a_generator_without_annotation_is_a_stream() -> None:
    assert signature_of(watch_untyped, ()).result == Value(object, True)


def test_a_streamed_payload() -> None:
    assert signature_of(store, ()).payload == Value(bytes, True)
    assert signature_of(store_any, ()).payload == Value(object, True)


def test_resources_in_any_order() -> None:
    told = signature_of(with_resource, {Database, tofu.Call})
    assert told.order == (Database, None, tofu.Call)
    assert told.payload == Value(Job, False)


def test_constraints_in_an_annotation_are_kept() -> None:
    told = signature_of(constrained, ())
    assert told.payload is not None
    assert told.payload.type == Annotated[int, msgspec.Meta(gt=0)]


def not_async(job: Job) -> int: ...


async def two(job: Job, other: Job) -> int: ...


async def keyword(*, job: Job) -> int: ...


async def many(*jobs: Job) -> int: ...


async def unknown(job: Missing) -> int: ...  # type: ignore[name-defined]  # noqa: F821


class CallableObject:
    async def __call__(self, job: Job) -> int: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (not_async, "is no async function"),
        (two, "'other' among them"),
        (keyword, "not passed by position"),
        (many, "not passed by position"),
        (unknown, "name 'Missing' is not defined"),
        (CallableObject(), "is no async function"),
        (5, "is no async function"),
        (Job, "is no async function"),
    ],
)
def test_what_is_refused(function: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        signature_of(function, ())


class Interface(Protocol):
    def without_self() -> None: ...  # type: ignore[misc]

    def two(self, a: int, b: int) -> int: ...


def test_a_method_without_self_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="without_self"):
        signature_of_method(Interface.without_self)


def test_a_method_with_two_parameters_is_refused() -> None:
    with pytest.raises(TypeError, match="'b' among them"):
        signature_of_method(Interface.two)


def test_a_bound_method_may_be_a_handler() -> None:
    class Handlers:
        async def resize(self, job: Job) -> int: ...

    Handlers.resize.__annotations__ = {"job": Job, "return": int}
    assert signature_of(Handlers().resize, ()).payload == Value(Job, False)


def test_any_is_any() -> None:
    async def handler(payload: Any) -> Any: ...

    told = signature_of(handler, ())
    assert told.payload == Value(Any, False)  # type: ignore[arg-type]

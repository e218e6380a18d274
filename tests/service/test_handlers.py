"""Which results of a handler are what its annotation says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict

import msgspec
import pytest

from tests.service.serving import Job
from tofu_aio.service.handlers import Handler


@dataclass
class Point:
    x: int


class Dict(TypedDict):
    x: int


class Sized(Protocol):
    def __len__(self) -> int: ...


UserId = NewType("UserId", int)


def handler_with(result: object) -> Handler:
    async def handler(): ...  # type: ignore[no-untyped-def]

    handler.__annotations__["return"] = result
    return Handler("resize", handler, ())


@pytest.mark.parametrize(
    ("annotation", "result"),
    [
        (int, 1),
        (int, True),
        (float, 1),
        (float, 1.5),
        (None, None),
        (object, 7),
        (Any, 7),
        (int | None, 1),
        (int | None, None),
        (Optional[int], 1),  # noqa: UP045
        (int | str, "a"),
        (list[int], [1]),
        (Sequence[int], [1]),
        (Mapping[str, int], {"a": 1}),
        (dict[str, int], {"a": 1}),
        (tuple[int, ...], (1,)),
        (Literal["a"], "a"),
        (Annotated[int, msgspec.Meta(gt=0)], 1),
        (UserId, 1),
        (Sized, [1]),
        (Job, Job(1)),
        (Point, Point(1)),
        (Dict, {"x": 1}),
        (bytes, b"a"),
    ],
    ids=str,
)
def test_right_results_pass(annotation: object, result: object) -> None:
    handler_with(annotation).check_result(result)


@pytest.mark.parametrize(
    ("annotation", "result", "said"),
    [
        (int, "1", "an object of type str, and its annotation says int"),
        (int, None, "returned None, and its annotation says int. Does a middleware"),
        (None, 1, "an object of type int, and its annotation says NoneType"),
        (Job, {"width": 1}, "an object of type dict, and its annotation says Job"),
        (list[int], (1,), "an object of type tuple, and its annotation says list"),
        (Dict, [1], "says dict"),
        (bytes, "a", "says bytes"),
        (float, "1", "says float"),
    ],
    ids=str,
)
def test_wrong_results_are_named(annotation: object, result: object, said: str) -> None:
    with pytest.raises(TypeError, match=r"^the handler 'resize' returned") as caught:
        handler_with(annotation).check_result(result)
    assert said in str(caught.value)

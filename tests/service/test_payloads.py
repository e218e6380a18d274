"""Payloads: what is encoded, what travels as it is, and what an error says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, TypeVar, cast

import pytest

import tofu_aio as tofu
from tests.service.serving import Job
from tofu_aio import Message, OpCode, Status
from tofu_aio.service.codec import BYTES
from tofu_aio.service.payloads import Codecs

T = TypeVar("T")
JSON_TYPE = "application/json"


@dataclass
class Point:
    x: int
    y: int


class Named(TypedDict):
    name: str


class Reversed:
    """A codec of a program's own: it has no errors but ValueError."""

    content_type = "text/reversed"

    def encode(self, value: object, /) -> bytes:
        return str(value)[::-1].encode()

    def decode(self, body: bytes, as_type: type[T], /) -> T:
        return cast("T", body.decode()[::-1])


@pytest.fixture
def codecs() -> Codecs:
    return Codecs(tofu.JSON)


@pytest.mark.parametrize("codec", [tofu.JSON, tofu.MSGPACK], ids=repr)
@pytest.mark.parametrize(
    ("value", "as_type"),
    [
        (Job(3, "a"), Job),
        (Point(1, 2), Point),
        ({"name": "a"}, Named),
        ([1, 2], list[int]),
        ("text", str),
        (1.5, float),
        (True, bool),
        (None, type(None)),
        ({"a": [1, None]}, object),
        (5, int | None),
    ],
    ids=str,
)
def test_values_survive(codec: tofu.Codec, value: object, as_type: type) -> None:
    codecs = Codecs(codec)
    content_type, body = codecs.encode(codec, value)
    assert codecs.decode(content_type, body, as_type) == value


@pytest.mark.parametrize("value", [b"raw", bytearray(b"raw"), memoryview(b"raw")], ids=type)
def test_bytes_are_not_touched(codecs: Codecs, value: object) -> None:
    assert codecs.encode(tofu.JSON, value) == (BYTES, b"raw")
    assert codecs.decode(BYTES, b"raw", bytes) == b"raw"
    assert codecs.decode(BYTES, b"raw", object) == b"raw"


@pytest.mark.parametrize(
    ("content_type", "body", "as_type", "said"),
    [
        (JSON_TYPE, b'{"width": "wide"}', Job, "$.width"),
        (JSON_TYPE, b'{"name": "a"}', Job, "width"),
        (JSON_TYPE, b"[1, 2, {}]", list[int], "$[2]"),
        (JSON_TYPE, b"no json", Job, "malformed"),
        (JSON_TYPE, b"", Job, "truncated"),
        (JSON_TYPE, b"\xff\xfe", object, "malformed"),
        (JSON_TYPE, b'"\xff"', str, ""),
        (JSON_TYPE, b"[" * 100_000, object, "nested too deeply"),
        (JSON_TYPE, b'{"a":' * 100_000, object, "nested too deeply"),
        ("application/msgpack", b"\x91" * 100_000, object, "nested too deeply"),
        ("application/msgpack", b"\xc1", object, "malformed"),
        (JSON_TYPE, b"1" * 10_000, int, ""),
        ("", b"", Job, "the payload is empty"),
        ("", b"", int, "the payload is empty"),
        (BYTES, b"{}", Job, "the payload is application/octet-stream, and not Job"),
        (BYTES, b"{}", list[int], "and not list[int]"),
        ("text/html", b"{}", Job, "the content type 'text/html' is not known here"),
        ("text/" + "x" * 10_000, b"{}", Job, "is not known here"),
        ("\udcff\n", b"{}", Job, "is not known here"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_payloads_are_value_errors_that_say_why(
    codecs: Codecs, content_type: str, body: bytes, as_type: type, said: str
) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        codecs.decode(content_type, body, as_type)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    str(caught.value).encode(errors="replace")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x"]
)
def test_parameters_of_a_content_type_do_not_matter(codecs: Codecs, content_type: str) -> None:
    assert codecs.of(content_type) is tofu.JSON


def test_no_payload_is_none(codecs: Codecs) -> None:
    assert codecs.decode("", b"", object) is None
    assert codecs.decode("", b"", type(None)) is None


def test_no_payload_for_an_optional_type_is_none(codecs: Codecs) -> None:
    assert codecs.encode(tofu.JSON, None) == ("", b"")
    assert codecs.decode("", b"", int | None) is None  # type: ignore[arg-type]


def test_a_codec_of_ones_own() -> None:
    codecs = Codecs(Reversed())
    content_type, body = codecs.encode(codecs.own, "abc")
    assert (content_type, body) == ("text/reversed", b"cba")
    assert codecs.decode(content_type, body, str) == "abc"
    assert codecs.of(JSON_TYPE) is tofu.JSON


@pytest.mark.parametrize("wrong", ["json", None, 5, [1]], ids=repr)
def test_what_is_no_codec_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"use tofu\.JSON, tofu\.MSGPACK"):
        Codecs(wrong)  # type: ignore[arg-type]


# --- errors -------------------------------------------------------------------------------------


def response(body: bytes, status: Status = Status.PROCESSING_FAILED, **headers: str) -> Message:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    message = Message(OpCode.RESPONSE, body, pairs, message_id=1)
    message.status = status
    return message


def test_an_error_without_a_code_has_its_status(codecs: Codecs) -> None:
    error = codecs.error(response(b"too long", Status.INVALID_BODY_LEN), "")
    assert isinstance(error, tofu.ServiceError)
    assert (error.code, error.text) == ("invalid_body_len", "too long")
    assert error.status is Status.INVALID_BODY_LEN


def test_an_error_with_details(codecs: Codecs) -> None:
    body = b'{"text": "nope", "details": {"x": [1]}}'
    error = codecs.error(response(body, code="not_found", content_type=JSON_TYPE), "")
    assert isinstance(error, tofu.ServiceError)
    assert (error.code, error.text, error.details) == ("not_found", "nope", {"x": [1]})


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no json", {"code": "not_found", "content_type": JSON_TYPE}),
        (b"[]", {"code": "not_found", "content_type": JSON_TYPE}),
        (b"text", {"code": "not_found", "content_type": "text/html"}),
        (b"\xff", {"code": "not_found"}),
        (b"x", {"code": "no code at all\n" * 20}),
        (b"", {"code": ""}),
    ],
    ids=str,
)
def test_nonsense_of_a_peer_is_still_a_service_error(
    codecs: Codecs, body: bytes, headers: dict[str, str]
) -> None:
    pairs = {name: value.replace("\n", " ") for name, value in headers.items()}
    error = codecs.error(response(body, **pairs), "")
    assert isinstance(error, tofu.ServiceError)


def test_a_codec_that_breaks_on_an_error_body_is_survived() -> None:
    class Broken(Reversed):
        def decode(self, body: bytes, as_type: type[T], /) -> T:
            raise KeyError("a bug")

    error = Codecs(Broken()).error(response(b"x", code="c", content_type="text/reversed"), "")
    assert isinstance(error, tofu.ServiceError)
    assert error.code == "c"


def test_a_passed_deadline_is_a_timeout(codecs: Codecs) -> None:
    error = codecs.error(response(b"too late", code="deadline_exceeded"), "")
    assert isinstance(error, TimeoutError)
    assert str(error) == "too late"


@pytest.mark.parametrize("code", ["", "two words", "x" * 65, "new\nline", "\u00fc"])
def test_a_code_has_a_form(code: str) -> None:
    with pytest.raises(ValueError, match="the code of an error is"):
        tofu.ServiceError(code)


def test_a_service_error_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(tofu.ServiceError("not_found", "nope", [1])))
    assert (error.code, error.text, error.details) == ("not_found", "nope", [1])
    assert str(error) == "not_found: nope"

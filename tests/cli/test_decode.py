"""``tofu decode``: valid frames are printed, and errors have an offset and a reason."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.processes import Run, Running, spawn, unix
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.op_code import OpCode
from tofu_aio.protocol.status import Status

HI = Message(OpCode.REQUEST, b"hi", message_id=1)
HI_LINE = "REQUEST id=1 channel=0 body=2 'hi'\n"
VECTORS = Path(__file__).parents[1] / "vectors" / "zig_tofu_frames.json"


def written(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


@pytest.mark.parametrize("form", [[], ["--raw"]])
def test_raw(tofu_run: Run, form: list[str]) -> None:
    ended = tofu_run("decode", *form, written("raw", HI.encode() * 2))
    assert ended == (0, f"       0  {HI_LINE}      18  {HI_LINE}", "")


@pytest.mark.parametrize("form", [[], ["--hex"]])
@pytest.mark.parametrize("between", ["", " ", ":", "\r\n"])
def test_hexadecimal(tofu_run: Run, form: list[str], between: str) -> None:
    text = between.join(HI.encode().hex()).encode()
    assert tofu_run("decode", *form, written("hex", text)) == (0, f"       0  {HI_LINE}", "")


def test_nothing(tofu_run: Run) -> None:
    assert tofu_run("decode", written("empty", b"")) == (0, "", "")


def test_every_field_of_a_frame_is_shown(tofu_run: Run) -> None:
    headers = [("Job", "7"), ("Job", "8: \x1b[31m")]
    message = Message(OpCode.RESPONSE, b"~\n" * 50, headers, message_id=2, more=True)
    message.status, message.channel_number = Status.NOT_ALLOWED, 9
    frame = bytearray(message.encode())
    frame[2] |= 0x10  # its origin is the engine
    file = written("raw", bytes(frame))
    assert tofu_run("decode", "--body", "4", file).out == (
        "       0  RESPONSE id=2 channel=9 more origin=engine status=not_allowed "
        "[Job: 7] [Job: 8: \ufffd[31m] body=100 '~\\n~\\n'...\n"
    )
    assert tofu_run("decode", "--body", "0", file).out.endswith(" body=100\n")
    assert tofu_run("decode", "--body", "100", file).out.endswith("~\\n'\n")


def test_the_frames_of_the_zig_library(tofu_run: Run) -> None:
    frames = json.loads(VECTORS.read_text())["frames"]
    for frame in frames:
        ended = tofu_run("decode", written("hex", frame["hex"].encode()))
        assert (ended.code, ended.err) == (0, "")
        numbers = f"id={frame['message_id']} channel={frame['channel_number']}"
        assert ended.out.startswith(f"       0  {frame['op_code']} {numbers}")
        assert all(f"[{name}: {value}]" in ended.out for name, value in frame["text_headers"])
        assert f"body={len(frame['body']) // 2}" in ended.out
    everything = "\n".join(frame["hex"] for frame in frames)
    assert tofu_run("decode", written("hex", everything.encode())).out.count("\n") == len(frames)


@pytest.mark.parametrize(
    ("content", "shown", "reason"),
    [
        (
            HI.encode() * 2 + b"\0" * 3,
            2,
            "incomplete frame at byte 36: the input ends after 3 bytes of it",
        ),
        (
            HI.encode() + HI.encode()[:-1],
            1,
            "incomplete frame at byte 18: the input ends after 17 bytes of it",
        ),
        (
            HI.encode() + b"\0" * 16,
            1,
            "invalid frame at byte 18: REQUEST has the message id 0, reserved for heartbeats",
        ),
        (
            HI.encode() + bytes.fromhex("0000 0d 00 0000000000000001 0000 0000"),
            1,
            "invalid frame at byte 18: op code 13 is unknown; the known ones are 0 to 9",
        ),
        (
            HI.encode() + bytes.fromhex("0000 23 00 0000000000000001 0000 0000"),
            1,
            "invalid frame at byte 18: HELLO_REQUEST has the more bit, which only REQUEST",
        ),
        (
            HI.encode() + bytes.fromhex("0000 00 00 0000000000000001 0002 0000 0d0a"),
            1,
            "invalid frame at byte 18: '' is not a text header: it must have the form name:value",
        ),
        (HI.encode().hex().encode() + b"\n0g", 1, "at byte 18: 'g' is not a hexadecimal digit"),
        (
            HI.encode().hex().encode() + b"\n0",
            1,
            "at byte 18: the second hexadecimal digit is missing",
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            0,
            "invalid frame at byte 0: WELCOME_REQUEST is never sent to a peer",
        ),
    ],
)
def test_an_error_gives_the_offset_and_the_reason(
    tofu_run: Run, content: bytes, shown: int, reason: str
) -> None:
    ended = tofu_run("decode", written("file", content))
    assert ended.code == 1
    assert [line[10:] for line in ended.out.splitlines(keepends=True)] == [HI_LINE] * shown
    assert ended.complaint.startswith(reason)


def test_a_file_that_is_not_there(tofu_run: Run) -> None:
    ended = tofu_run("decode", "none")
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint == "none: no such file or folder: check the path"


@unix
def test_a_folder(tofu_run: Run) -> None:
    ended = tofu_run("decode", ".")
    assert (ended.code, ended.complaint) == (1, ".: this is a folder: give the path of a file")


def test_standard_input_is_decoded_as_it_comes(tmp_path: Path) -> None:
    process = spawn("-m", "tofu_aio", "decode", folder=tmp_path, stdin=subprocess.PIPE).process
    with process:
        assert process.stdin is not None
        text = HI.encode().hex()
        process.stdin.write(text + text[:7])
        process.stdin.flush()
        decoding = Running(process)
        assert decoding.line() == f"       0  {HI_LINE}".rstrip()
        process.stdin.write(text[7:])
        assert decoding.finish() == (0, f"      18  {HI_LINE}", "")

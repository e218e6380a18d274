"""``tofu request``: results, payloads, headers, errors and TLS."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from tests.cli.certificates import Files
from tests.cli.processes import Run, Running, Start, StartService, signals, spawn, unix
from tests.extras import needs_msgspec


@pytest.fixture(scope="module")
def address(start_service: StartService) -> str:
    """The address of a service."""
    return start_service()


def test_a_result_is_one_line_of_json(tofu_run: Run, address: str) -> None:
    assert tofu_run("request", address, "double", "-d", "21") == (0, "42\n", "")
    value = {"a": [1, 2.5, None], "b": "é", "big": 12345678901234567890}
    ended = tofu_run("request", address, "echo", "-d", json.dumps(value))
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert json.loads(ended.out) == value
    assert tofu_run("request", address, "nothing") == (0, "null\n", "")


def test_text_of_the_service_cannot_control_the_terminal(tofu_run: Run, address: str) -> None:
    text = "\x9b31m \x1b[31m \U000e0001"
    ended = tofu_run("request", address, "echo", "-d", json.dumps(text))
    assert ended.out.removesuffix("\n").isprintable()
    assert json.loads(ended.out) == text


def test_bytes_are_printed_as_they_are(start: Start, address: str) -> None:
    assert start("request", address, "raw").finish() == (0, "\x00raw", "")


def test_items_of_a_stream_are_lines(tofu_run: Run, address: str) -> None:
    assert tofu_run("request", address, "count", "-d", "3") == (0, "0\n1\n2\n", "")


def test_lines_are_items_of_a_streamed_payload(tofu_run: Run, address: str, tmp_path: Path) -> None:
    Path(tmp_path, "items").write_text("1\n2\n\n3\n", encoding="utf-8")
    assert tofu_run("request", address, "total", "--upload", "-d", "@items") == (0, "6\n", "")


def test_the_payload_may_be_in_a_file_or_on_stdin(
    tofu_run: Run, address: str, tmp_path: Path
) -> None:
    Path(tmp_path, "payload").write_text("4", encoding="utf-8")
    assert tofu_run("request", address, "double", "-d", "@payload").out == "8\n"
    command = ("-m", "tofu_aio", "request", address, "double", "-d", "-")
    with Path(tmp_path, "payload").open(encoding="utf-8") as stdin:
        running = spawn(*command, folder=tmp_path, stdin=stdin.fileno())
        assert running.finish() == (0, "8\n", "")


def test_headers_are_those_of_the_call_and_of_the_channel(tofu_run: Run, address: str) -> None:
    ended = tofu_run("request", address, "token", "-H", "token: a:b ", "-H", "other:1")
    assert ended == (0, '["a:b","a:b"]\n', "")
    assert tofu_run("request", address, "token").out == "[null,null]\n"


def test_names_are_listed(tofu_run: Run, address: str) -> None:
    code, out, err = tofu_run("request", address, "--list")
    assert (code, err) == (0, "")
    assert {"double", "count", "tofu.health"} <= set(out.splitlines())
    assert "tofu.statistics" not in out  # it is not enabled


def test_an_error_has_its_code_text_and_details(tofu_run: Run, address: str) -> None:
    ended = tofu_run("request", address, "fail", "-d", '"not_found"')
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == 'tofu request: not_found: because; details: {"field":1}\n'


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nobody"], "unimplemented: there is no handler 'nobody'"),
        (["double", "-d", '"x"'], "invalid_argument: Expected `int`, got `str`"),
        (["double"], "invalid_argument: the payload is empty"),
        (["wait", "--timeout", "0.2"], "no result within 0.2 s: give it more time with --timeout"),
        (["double", "-d", "{"], "the payload is not JSON: "),
        (["double", "-d", "[" * 100_000], "the payload is not JSON: "),
        (["total", "--upload", "-d", "1\n]"], "line 2 of the payload is not JSON: "),
        (["double", "-d", "@nowhere"], "nowhere: no such file or folder: check the path"),
    ],
)
def test_what_goes_wrong_is_one_line(
    tofu_run: Run, address: str, arguments: list[str], complaint: str
) -> None:
    ended = tofu_run("request", address, *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.startswith(complaint)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument 'NAME': give the name of a handler, or --list"),
        (["name", "--list"], "--list calls no handler"),
        (["name", "--upload"], "--upload needs --data, whose lines are the items"),
        (["name", "-H", "token"], "Invalid value for '--header' / '-H': 'token' is not a header"),
        (["name", "-H", ":x"], "Invalid value for '--header' / '-H': "),
        pytest.param(
            ["name", "--key", "k"],
            "--key needs --cert, the certificate that it belongs to",
            marks=needs_msgspec,
        ),
        pytest.param(
            ["name", "--insecure", "--cafile", "c"],
            "--insecure verifies nothing",
            marks=needs_msgspec,
        ),
        (["name", "--timeout", "0"], "Invalid value for '--timeout'"),
    ],
)
def test_options_that_make_no_sense(tofu_run: Run, arguments: list[str], complaint: str) -> None:
    ended = tofu_run("request", "tcp://127.0.0.1:1", *arguments)
    assert ended.code == 2
    assert ended.complaint.startswith(complaint)


@needs_msgspec
def test_nobody_listens(tofu_run: Run) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        ended = tofu_run("request", f"tcp://127.0.0.1:{bound.getsockname()[1]}", "name")
    assert (ended.code, ended.out) == (1, "")
    assert "nobody is listening there: start the listener first" in ended.complaint


@needs_msgspec
def test_a_peer_that_is_no_service_echoes(tofu_run: Run, start: Start) -> None:
    echo = start("serve", "tcp://127.0.0.1:0").listening()
    assert tofu_run("request", echo, "name", "-d", '{"a":1}') == (0, '{"a":1}\n', "")


@signals
def test_ctrl_c_ends_a_call(start: Start, address: str) -> None:
    def calling() -> Running:
        return start("request", address, "wait")

    waiting = calling()
    names = start("request", address, "echo", "-d", "1")  # connected later, answered before
    assert names.finish().out == "1\n"
    ended = waiting.stop(signal.SIGINT)
    assert ended.code in {130, -signal.SIGINT}  # or it was not so far yet


@unix
@needs_msgspec
def test_tls_is_not_for_unix_sockets(tofu_run: Run) -> None:
    ended = tofu_run("request", "uds:///tmp/s", "name", "--tls")
    assert ended.code == 2
    assert ended.complaint.startswith("TLS is for tcp:// addresses: leave its options out")


def test_without_msgspec_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None; import tofu_aio.__main__ as m\n"
        "sys.argv[1:] = ['request', 'tcp://127.0.0.1:1', 'name', '-d', '1']; m.main()"
    )
    ended = spawn("-c", code, folder=tmp_path).finish()
    assert ended.code == 1
    assert ended.complaint == (
        "tofu_aio.Client needs msgspec: install it with pip install 'tofu-aio[service]'"
    )


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def test_tls_verifies_the_service(tofu_run: Run, start_service: StartService, files: Files) -> None:
    numbered = start_service(str(files.server))
    named = f"tcp://localhost:{port_of(numbered)}"
    call = ("double", "-d", "1")
    assert tofu_run("request", named, *call, "--cafile", files.ca) == (0, "2\n", "")
    own = ("--cert", files.cert, "--key", files.key)
    assert tofu_run("request", named, *call, "--cafile", files.ca, *own) == (0, "2\n", "")
    name = ("--server-name", "localhost")
    assert tofu_run("request", numbered, *call, "--cafile", files.ca, *name) == (0, "2\n", "")
    assert tofu_run("request", numbered, *call, "--insecure") == (0, "2\n", "")
    for arguments in ((named, "--tls"), (numbered, "--cafile", files.ca)):
        ended = tofu_run("request", arguments[0], *call, *arguments[1:])
        assert ended.code == 1
        assert "certificate" in ended.complaint
    ended = tofu_run("request", named, *call)
    assert ended.code == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cafile", "nowhere"], "nowhere: no such file or folder"),
        (["--cafile", "nonsense.txt"], "nonsense.txt: there is no certificate in PEM"),
        (["--cert", "nonsense.txt"], "nonsense.txt: it cannot be used as a certificate"),
        (["--cert", "client.crt"], "client.crt: it cannot be used as a certificate"),
        (["--cert", "client.crt", "--key", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_a_file_for_tls_that_cannot_be_used(
    tofu_run: Run, files: Files, options: list[str], complaint: str
) -> None:
    ended = tofu_run("request", "tcp://localhost:1", "name", *options)
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.startswith(complaint)

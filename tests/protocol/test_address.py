"""Addresses, as people write them and as headers carry them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tofu_aio.protocol.address import Address, TcpAddress, UdsAddress, parse_address
from tofu_aio.protocol.errors import InvalidAddress
from tofu_aio.protocol.text_headers import TextHeaders


@pytest.mark.parametrize(
    ("address", "url", "header"),
    [
        (TcpAddress("127.0.0.1", 7300), "tcp://127.0.0.1:7300", "tcp|127.0.0.1|7300"),
        (TcpAddress("example.org", 0), "tcp://example.org:0", "tcp|example.org|0"),
        (TcpAddress("bücher.example", 65535), "tcp://bücher.example:65535", None),
        (TcpAddress("::1", 7000), "tcp://[::1]:7000", "tcp|::1|7000"),
        (TcpAddress("fe80::1%eth0", 7), "tcp://[fe80::1%eth0]:7", "tcp|fe80::1%eth0|7"),
        (TcpAddress("::ffff:1.2.3.4", 7), "tcp://[::ffff:1.2.3.4]:7", "tcp|::ffff:1.2.3.4|7"),
        (TcpAddress("*", 7000), "tcp://*:7000", "tcp||7000"),
        (UdsAddress("/tmp/7099.port"), "uds:///tmp/7099.port", "uds|/tmp/7099.port"),
        (UdsAddress("relative.sock"), "uds://relative.sock", "uds|relative.sock"),
        (UdsAddress("@name"), "uds://@name", "uds|@name"),
        (UdsAddress("/a b/é:1"), "uds:///a b/é:1", "uds|/a b/é:1"),
        (UdsAddress("/x://y"), "uds:///x://y", "uds|/x://y"),
        (UdsAddress("/\udcff"), "uds:///\udcff", "uds|/\udcff"),
    ],
)
def test_the_two_forms(address: Address, url: str, header: str | None) -> None:
    assert str(address) == url
    assert parse_address(url) == address
    if header is not None:
        assert address.to_header() == header
    assert parse_address(address.to_header()) == address
    assert parse_address(address) is address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("  tcp://h:1\n", TcpAddress("h", 1)),
        ("TCP://h:1", TcpAddress("h", 1)),
        ("tcp://h:1/", TcpAddress("h", 1)),
        ("tcp://h:00001", TcpAddress("h", 1)),
        ("tcp://:7000", TcpAddress("*", 7000)),
        ("tcp|*|7000", TcpAddress("*", 7000)),
        ("Uds:///Path", UdsAddress("/Path")),
        (" uds|/p ", UdsAddress("/p")),
    ],
)
def test_what_else_is_understood(text: str, address: Address) -> None:
    assert parse_address(text) == address


FORMS = "use tcp://host:port, uds:///path, or uds://@name"


@pytest.mark.parametrize(
    ("text", "cause", "cure"),
    [
        ("", "'' is not an address", FORMS),
        ("localhost:80", "'localhost:80' is not an address", FORMS),
        ("http://localhost:80", "is not an address", FORMS),
        ("tcp://", "'tcp://': the port is missing", FORMS),
        (
            "tcp://localhost",
            "'tcp://localhost': the port is missing, a number from 0 to 65535",
            FORMS,
        ),
        ("tcp://localhost/", "'tcp://localhost/': the port is missing", FORMS),
        ("tcp://localhost:", "the port is missing", "0 to 65535"),
        ("tcp://:", "the port is missing", FORMS),
        ("tcp://localhost:http", "'http' is not a port", "0 to 65535"),
        ("tcp://localhost:70000", "70000 is not", "0 to 65535"),
        ("tcp://localhost:65536", "65536 is not", "0 to 65535"),
        ("tcp://localhost:-1", "'-1' is not a port", "0 to 65535"),
        ("tcp://localhost:+1", "'+1' is not a port", "0 to 65535"),
        ("tcp://localhost:1_0", "'1_0' is not a port", "0 to 65535"),
        ("tcp://localhost: 80", "' 80' is not a port", "0 to 65535"),
        ("tcp://localhost:٨٠", "is not a port", "0 to 65535"),
        ("tcp://localhost:²", "is not a port", "0 to 65535"),
        pytest.param("tcp://h:" + "9" * 5000, "is not a port", "0 to 65535", id="endless"),
        ("tcp://localhost:80/path", "'80/path' is not a port", FORMS),
        ("tcp://::1:7000", "tcp://::1:7000", "needs brackets, as in tcp://[::1]:7000"),
        ("tcp://[::1]", "'tcp://[::1]': the port is missing", FORMS),
        ("tcp://[::1]:", "'tcp://[::1]:': the port is missing", FORMS),
        ("tcp://[]:80", "'[]' is not a host", FORMS),
        ("tcp://[localhost]:80", "'[localhost]' is not a host", FORMS),
        ("tcp://[x:y]:80", "'x:y' is not a host", FORMS),
        ("tcp://user@host:80", "'user@host' is not a host", FORMS),
        ("tcp://a b:80", "'a b' is not a host", FORMS),
        ("tcp://a\tb:80", "is not a host", FORMS),
        ("tcp://a\x1bb:80", "is not a host", FORMS),
        ("tcp://a\N{NO-BREAK SPACE}b:80", "is not a host", FORMS),
        ("tcp://a\udcffb:80", "is not a host", FORMS),
        ("tcp://a|b:80", "is not an address", FORMS),
        ("tcp|localhost", "'tcp|localhost': the port is missing", FORMS),
        ("tcp|localhost|", "'tcp|localhost|': the port is missing", FORMS),
        ("tcp|localhost|80|x", "is not an address", FORMS),
        ("tcp|localhost:80|80", "'localhost:80' is not a host", FORMS),
        ("TCP|localhost|80", "is not an address", FORMS),
        ("tcp|localhost|70000", "70000 is not", "0 to 65535"),
        ("uds://", "needs a path", FORMS),
        ("uds://@", "needs a path or a name", FORMS),
        ("uds|", "needs a path", FORMS),
        ("uds|/a|b", "is not an address", FORMS),
        ("uds:///a\nb", "'/a\\nb' cannot be", "no control character"),
        ("uds:///a\0b", "'/a\\x00b' cannot be", "no control character"),
        ("uds:///a\x7fb", "'/a\\x7fb' cannot be", "no control character"),
        ("uds:///\ud800", "cannot be", "Unix socket"),
    ],
)
def test_bad_ones_are_refused_with_cause_and_cure(text: str, cause: str, cure: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse_address(text)
    assert cause in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize("host", ["", "a|b", "[::1]", "a:80", ":", "a/b", "a\r\n"])
def test_a_host_is_checked_wherever_it_comes_from(host: str) -> None:
    with pytest.raises(InvalidAddress, match="is not a host"):
        TcpAddress(host, 1)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_checked_wherever_it_comes_from(port: int) -> None:
    with pytest.raises(InvalidAddress, match="not within 0 to 65535"):
        TcpAddress("h", port)


@pytest.mark.parametrize("path", ["/a|b", "/a ", "/a\t", "/a\r", "/\udbff"])
def test_a_path_is_checked_wherever_it_comes_from(path: str) -> None:
    with pytest.raises(InvalidAddress, match=r"no '\|'.*no blank at its end"):
        UdsAddress(path)


@pytest.mark.parametrize(("path", "abstract"), [("@name", True), ("/@name", False)])
def test_a_name_without_a_file(path: str, abstract: bool) -> None:
    assert UdsAddress(path).abstract is abstract


def test_addresses_are_values() -> None:
    assert {TcpAddress("h", 1): "a"}[TcpAddress("h", 1)] == "a"
    with pytest.raises(AttributeError):
        TcpAddress("h", 1).port = 2  # type: ignore[misc]


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = (
    st.lists(labels, min_size=1, max_size=3).map(".".join)
    | st.ip_addresses().map(str)
    | st.just("*")
)
paths = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="|"), min_size=1
).filter(lambda path: path != "@" and not path[-1].isspace())


@given(st.builds(TcpAddress, hosts, st.integers(0, 65535)) | st.builds(UdsAddress, paths))
@example(UdsAddress(" /x"))
def test_every_address_comes_back_from_either_form(address: Address) -> None:
    assert parse_address(str(address)) == address
    travelled = TextHeaders.decode(TextHeaders({"~connect_to": address.to_header()}).encode())
    assert parse_address(travelled["~connect_to"]) == address


odds = st.sampled_from(["7000", "70000", "::1", *"|:[]@*/%.hé² \n\0\udcff"])
nearly = st.tuples(
    st.sampled_from(["", "tcp", "uds", "TCP"]),
    st.sampled_from(["", "://", "|"]),
    st.lists(odds, max_size=6).map("".join),
).map("".join)


@given(nearly | st.text())
def test_any_text_is_an_address_or_an_invalid_one(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidAddress:
        return
    assert parse_address(str(address)) == address
    assert parse_address(address.to_header()) == address


@pytest.mark.parametrize("wrong", [7000, None, b"tcp://localhost:7000", ("localhost", 7000), len])
def test_what_is_no_text_is_told_what_an_address_is(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^an address must be a str or an Address, not .*: use tcp://"
    ):
        parse_address(wrong)

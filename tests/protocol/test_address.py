"""Addresses, as people write them and as headers carry them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tofu_aio.protocol.address import (
    Address,
    FdAddress,
    NatsAddress,
    TcpAddress,
    UdsAddress,
    parse_address,
)
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
        (FdAddress(3), "fd://3", "fd|3"),
        (NatsAddress((TcpAddress("a", 1),), "x"), "nats://a:1/x", "nats|a:1|x"),
        (
            NatsAddress((TcpAddress("fe80::1%eth0", 1),), "x"),
            "nats://[fe80::1%eth0]:1/x",
            "nats|[fe80::1%eth0]:1|x",
        ),
        (
            NatsAddress((TcpAddress("a", 1), TcpAddress("::1", 2)), "x.Y-1_z", tls=True),
            "nats+tls://a:1,[::1]:2/x.Y-1_z",
            "nats+tls|a:1,[::1]:2|x.Y-1_z",
        ),
        (FdAddress(2**31 - 1), "fd://2147483647", "fd|2147483647"),
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


FORMS = "use tcp://host:port, uds:///path, uds://@name"


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
        ("tcp://user@host:80", "'...@host' is not a host", FORMS),
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
        ("fd://", "'' is not the number of a descriptor", "use fd://3"),
        ("fd://-1", "'-1' is not the number of a descriptor", "use fd://3"),
        ("fd://x", "'x' is not the number of a descriptor", "use fd://3"),
        ("fd://٣", "is not the number of a descriptor", "use fd://3"),
        ("fd://3000000000", "descriptor 3000000000", "is not within 0 to 2147483647"),
        ("fd://30000000000", "is not the number of a descriptor", "use fd://3"),
        ("fd|3|4", "is not an address", FORMS),
    ],
)
def test_bad_ones_are_refused_with_cause_and_cure(text: str, cause: str, cure: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse_address(text)
    assert cause in str(caught.value)
    assert cure in str(caught.value)


A = (TcpAddress("a", 4222),)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nats://a/x", NatsAddress(A, "x")),
        ("NATS://a/x/", NatsAddress(A, "x")),
        ("nats://u:secret@a/x", NatsAddress(A, "x", user="u", password="secret")),
        ("nats://u%3A:%40%2Fp@a/x", NatsAddress(A, "x", user="u:", password="@/p")),
        ("nats://u:p/@?|:@a/x", NatsAddress(A, "x", user="u", password="p/@?|:")),
        ("nats://u:@a/x", NatsAddress(A, "x", user="u", password="")),
        ("nats+tls://to%20ken@a/x", NatsAddress(A, "x", tls=True, token="to ken")),
        ("nats://u:se/cr?et@a/x", NatsAddress(A, "x", user="u", password="se/cr?et")),
        ("nats://a/x?credentials=/c++/d%2B", NatsAddress(A, "x", credentials="/c++/d+")),
        ("nats://a/x?", NatsAddress(A, "x")),
        ("nats://a/x?credentials=/c%20d@e", NatsAddress(A, "x", credentials="/c d@e")),
    ],
)
def test_who_a_program_is_comes_from_the_url_and_is_never_shown(
    text: str, address: NatsAddress
) -> None:
    assert parse_address(text) == address
    for shown in (str(address), repr(address), address.to_header()):
        assert "a:4222" in shown or "port=4222" in shown
        assert not any(proof and proof in shown for proof in (address.password, address.token))
        assert "credentials" not in shown


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("nats://u:secret@a", "has no broker or no service"),
        ("nats://u:secret@a/", "has no broker or no service"),
        ("nats:///x", "has no broker or no service"),
        ("nats://", "has no broker or no service"),
        ("nats://u:secret@a/x y", "'x y' is not the name of a service"),
        ("nats://u:secret@a/x.*", "'x.*' is not the name of a service"),
        ("nats://u:secret@a/x..y", "'x..y' is not the name of a service"),
        ("nats://u:secret@a/" + "x" * 201, "is not the name of a service"),
        ("nats://u:secret@a:b/x", "nats://...@a:b/x': 'b' is not a port"),
        ("nats://u:secret@a:0/x", "'a:0' is not a broker"),
        ("nats://u:secret@*/x", "'*:4222' is not a broker"),
        ("nats://u:secret@a#b.example:9999/x", "'a#b.example:9999' is not a broker"),
        ("nats://u:secret@a\\b/x", "is not a broker"),
        ("nats://u:secret@b%C3%BC/x", "is not a broker"),
        ("nats://u:secret@bü/x", "is not a broker"),
        ("nats://u:secret@[::1%a#b]/x", "'[::1%a#b]:4222' is not a broker"),
        ("nats://u:secret@a,/x", "is not a host"),
        ("nats://u:secret@::1/x", "an IPv6 address needs brackets"),
        ("nats://u:secret@a/x?tls=1", "unknown 'tls'"),
        ("nats://u:secret@a/x?credentials=/c", "give one of user and password, token, or cred"),
        ("nats://@a/x", "must not be empty"),
        ("nats://u:se/cret?secret@a", "has no broker or no service"),
        ("nats://u:secret@a/x?credentials=/c&secret@b", "has no broker or no service"),
        ("nats|a", "is not an address"),
        ("nats|u:se|secret@a|x", "'...@a|x' is not an address"),
        ("nats|u:secret@a|x", "it must not say who connects. Give user and password, token or"),
        ("nats+tls|secret@a|x", "nats+tls|...: the form for headers goes to the peer"),
        ("nats|a|x?credentials=/secret", "it must not say who connects"),
        ("nats|a|x?", "it must not say who connects"),
        ("tls://u:secret@a:4222/x", "'tls://...@a:4222/x' is not an address"),
        ("nats+ssl://u:secret@a@b/x", "'nats+ssl://...@b/x' is not an address"),
        ("nats:/u:secret@a/x", "'...@a/x' is not an address"),
        ("u:secret@a/x", "'...@a/x' is not an address"),
        ("u:secret\nsecret@a/x", "'...@a/x' is not an address"),
        ("tcp://u:secret@a:1", "tcp://...@a:1: an IPv6 address needs brackets"),
        ("tcp://u:secret@a", "'...@a' is not a port"),
        ("tcp://secret@a:1", "'...@a' is not a host"),
        ("tcp://secret@a", "'tcp://...@a': the port is missing"),
        ("tcp|u:secret@a|1", "'...@a' is not a host"),
        ("fd://u:secret@3", "'fd://...@3': '...@3' is not the number"),
        ("uds:///secret@a\tb", "'...@a\\tb' cannot be the path"),
    ],
)
def test_no_error_shows_a_password(text: str, cause: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse_address(text)
    assert cause in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_type_shows_no_password() -> None:
    wrong: Any = b"nats://u:secret@a/x"
    with pytest.raises(TypeError, match=r"not \.\.\.@a/x'") as caught:
        parse_address(wrong)
    assert "secret" not in str(caught.value)


def test_a_user_without_a_password_is_nobody() -> None:
    with pytest.raises(InvalidAddress, match="a user needs a password"):
        NatsAddress(A, "x", user="u")
    with pytest.raises(InvalidAddress, match="at least one broker"):
        NatsAddress((), "x")


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


brokers = st.builds(TcpAddress, hosts.filter(lambda host: host != "*"), st.integers(1, 65535))
services = st.from_regex(r"[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){0,3}", fullmatch=True)


@given(
    st.builds(TcpAddress, hosts, st.integers(0, 65535))
    | st.builds(UdsAddress, paths)
    | st.builds(
        NatsAddress,
        st.lists(brokers, min_size=1, max_size=3).map(tuple),
        services,
        st.booleans(),
    )
)
@example(UdsAddress(" /x"))
def test_every_address_comes_back_from_either_form(address: Address) -> None:
    assert parse_address(str(address)) == address
    travelled = TextHeaders.decode(TextHeaders({"~connect_to": address.to_header()}).encode())
    assert parse_address(travelled["~connect_to"]) == address


odds = st.sampled_from(["7000", "70000", "::1", *"|:[]@*/%.hé² \n\0\udcff"])
nearly = st.tuples(
    st.sampled_from(["", "tcp", "uds", "TCP", "nats"]),
    st.sampled_from(["", "://", "|"]),
    st.lists(odds, max_size=6).map("".join),
).map("".join)


@given(nearly | st.text())
def test_any_text_is_an_address_or_an_invalid_one(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidAddress:
        return
    if isinstance(address, NatsAddress):  # without what is not shown
        address = NatsAddress(address.brokers, address.service, address.tls)
    assert parse_address(str(address)) == address
    assert parse_address(address.to_header()) == address


@pytest.mark.parametrize("wrong", [7000, None, b"tcp://localhost:7000", ("localhost", 7000), len])
def test_what_is_no_text_is_told_what_an_address_is(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^an address must be a str or an Address, not .*: use tcp://"
    ):
        parse_address(wrong)

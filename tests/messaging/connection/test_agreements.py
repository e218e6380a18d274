"""What a Hello and its answer agree upon, read from their encoded headers."""

from __future__ import annotations

import asyncio
import math

import pytest

import tofu_aio as tofu
from tests.messaging.conftest import closing_both
from tests.messaging.peers import RawPeer, RawServer, connection_of, frame
from tofu_aio import Message, OpCode
from tofu_aio.messaging.connection.agreements import (
    NO_EXTENSION,
    NOTHING,
    SUPPORTED,
    Agreement,
    Extension,
    agreed,
    agreed_interval,
    shared,
)
from tofu_aio.messaging.connection.heartbeat import HeartbeatOption, heartbeat_header
from tofu_aio.messaging.posting.posted import PostedChannel
from tofu_aio.protocol.text_headers import TextHeaders

BOTH = Extension.CANCEL | Extension.WHOLE
EVERYTHING = BOTH | Extension.DRAIN
TCP = tofu.TcpAddress("127.0.0.1", 1)
UDS = tofu.UdsAddress("/tmp/x")

Headers = dict[str, str] | list[tuple[str, str]]


# --- heartbeats ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "listener", "kept"),
    [
        (None, None, None),
        (None, 20.0, 20.0),
        (None, 0.01, 0.01),
        (20.0, None, 20.0),
        (5.0, 20.0, 5.0),
        (20.0, 5.0, 5.0),
        (1.0, 20.0, 1.0),
        # What a client alone cannot have.
        (0.01, None, 1.0),
        (0.01, 20.0, 1.0),
        (0.01, 1.0, 1.0),
        (0.01, 0.25, 0.25),
        (0.25, 0.01, 0.01),
        (20.0, 0.01, 0.01),
    ],
)
def test_the_shorter_interval_is_kept_but_below_a_second_the_listener_s(
    client: float | None, listener: float | None, kept: float | None
) -> None:
    assert agreed_interval(client, listener) == kept


@pytest.mark.parametrize("altitude", ["stream", "messages"])
async def test_a_client_alone_cannot_have_a_heartbeat_each_10_ms(
    group: tofu.ChannelGroup, altitude: str
) -> None:
    """Both ends know, and go by the same."""
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        if altitude == "stream":
            client, server = await asyncio.gather(
                group.connect(listener.address, heartbeat=0.01), listener.accept()
            )
            assert connection_of(client).heartbeat == 1.0
            assert server.hello.headers["~heartbeat"] == "10"
            await client.aclose()
        else:
            hello = Message(
                OpCode.HELLO_REQUEST,
                headers={"~connect_to": listener.address.to_header(), "~heartbeat": "10"},
            )
            number = group.post(hello).channel_number
            server = await listener.accept()
            await group.receive()
            member = group._members[number]
            assert isinstance(member, PostedChannel)
            assert member._connection.heartbeat == 1.0
            await member.aclose()
        assert connection_of(server).heartbeat == 1.0
        await server.aclose()


@pytest.mark.parametrize(
    ("headers", "interval"),
    [
        ({}, None),
        ({"~heartbeat": "5000"}, 5.0),
        ([("a", "b"), ("~heartbeat", "10"), ("c", "d")], 0.01),
        ({" ~heartbeat ": " 86400000 "}, 86400.0),
        ([("~heartbeat", "20"), ("~heartbeat", "30")], 0.02),
        ({"~heartbeat": "9"}, None),
        ({"~heartbeat": "0"}, None),
        ({"~heartbeat": "-5000"}, None),
        ({"~heartbeat": "5e3"}, None),
        ({"~heartbeat": "86400001"}, None),
        ({"~heartbeat": "9" * 60000}, None),
        ({"~heartbeat": "\u0665"}, None),
        ({"x~heartbeat": "5000"}, None),
        ({"a": "~heartbeat:5000"}, None),
        ({"~Heartbeat": "5000"}, None),
    ],
)
@pytest.mark.parametrize("answer", [False, True])
def test_the_heartbeats_that_are_asked_for(
    headers: Headers, interval: float | None, *, answer: bool
) -> None:
    encoded = TextHeaders(headers).encode()
    assert agreed(encoded, answer=answer) == Agreement(interval, NO_EXTENSION)


@pytest.mark.parametrize("seconds", [0.01, 0.0149, 1, 2.5, 86400])
def test_what_is_asked_for_is_understood(seconds: float) -> None:
    encoded = TextHeaders(heartbeat_header(seconds, TCP)).encode()
    assert agreed(encoded, answer=False).heartbeat == pytest.approx(seconds, abs=0.0005)


@pytest.mark.parametrize(
    ("option", "where", "asked"),
    [
        ("auto", TCP, {"~heartbeat": "20000"}),
        ("auto", UDS, {}),
        (None, TCP, {}),
        (3, TCP, {"~heartbeat": "3000"}),
        (3, UDS, {"~heartbeat": "3000"}),
    ],
)
def test_what_an_option_asks_for(
    option: HeartbeatOption, where: tofu.Address, asked: dict[str, str]
) -> None:
    assert heartbeat_header(option, where) == asked


@pytest.mark.parametrize("seconds", [0, 0.009, math.nan, math.inf, 86_401])
def test_an_interval_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^heartbeat is "):
        heartbeat_header(seconds, TCP)


# --- extensions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "supports"),
    [
        ("cancel", Extension.CANCEL),
        ("whole", Extension.WHOLE),
        ("cancel,whole", BOTH),
        ("whole ,\tcancel", BOTH),
        ("drain", Extension.DRAIN),
        ("cancel,whole,drain", EVERYTHING),
        ("later-2,cancel,,x_y", Extension.CANCEL),
        ("cancelled", NO_EXTENSION),
        ("CANCEL", NO_EXTENSION),
        ("cancel;whole", NO_EXTENSION),
        (",", NO_EXTENSION),
        ("x" * 200 + ",cancel", Extension.CANCEL),
        ("x" * 60000 + ",cancel", NO_EXTENSION),
    ],
)
def test_the_extensions_that_a_peer_has(value: str, supports: Extension) -> None:
    encoded = TextHeaders([("a", "b"), ("~supports", value), ("c", "d")]).encode()
    for answer in (False, True):
        assert agreed(encoded, answer=answer) == Agreement(None, supports)


def test_we_say_all_that_we_can() -> None:
    assert agreed(TextHeaders(SUPPORTED).encode(), answer=True) == Agreement(None, EVERYTHING)


# --- echoes, and what poses as a header -----------------------------------------------------


ALL = [("~heartbeat", "5000"), ("~supports", "cancel,whole,drain")]


def test_a_hello_may_say_where_it_goes_and_an_answer_that_does_is_an_echo() -> None:
    for pairs in ([("~connect_to", "tcp|x|1"), *ALL], [*ALL, (" ~connect_to ", "x")]):
        encoded = TextHeaders(pairs).encode()
        assert agreed(encoded, answer=False) == Agreement(5.0, EVERYTHING)
        assert agreed(encoded, answer=True) is NOTHING


@pytest.mark.parametrize("end", [b"\n", b"\r", b" "])
def test_a_line_within_a_value_is_no_header(end: bytes) -> None:
    """The Zig library writes CR or LF within a value."""
    lines = b"a:b" + end + b"~heartbeat:5000\r\nc:d" + end + b"~supports:cancel\r\n"
    assert agreed(lines, answer=True) == NOTHING
    own = TextHeaders(ALL).encode()
    assert agreed(own + b"a:b" + end + b"~connect_to:x\r\n", answer=True) == Agreement(
        5.0, EVERYTHING
    )


@pytest.mark.parametrize("filling", [b" " * 60_000, b"~heartbeat:1" * 5000, b"\r\n\t" * 20_000])
def test_long_headers_take_no_longer_than_their_length(filling: bytes) -> None:
    """With a step back for each byte they would take minutes."""
    assert agreed(b"a:" + filling + b"\r\n", answer=True).supports == NO_EXTENSION


# --- what is kept of them --------------------------------------------------------------------


def test_equal_headers_of_the_engine_alone_are_one_object() -> None:
    first, second = (shared(TextHeaders.decode(TextHeaders(ALL).encode())) for _ in range(2))
    assert first is second
    assert first == TextHeaders(ALL)


@pytest.mark.parametrize("pairs", [[*ALL, ("Token", "secret")], [("a", "b")], [("~x", "y" * 300)]])
def test_other_headers_are_left_alone(pairs: list[tuple[str, str]]) -> None:
    headers = TextHeaders.decode(TextHeaders(pairs).encode())
    assert shared(headers) is headers


# --- on channels -----------------------------------------------------------------------------


async def test_streams_know_what_their_peers_can_do(
    group: tofu.ChannelGroup, transport_address: str
) -> None:
    async with await group.listen(transport_address) as listener:
        ends = await asyncio.gather(group.connect(listener.address), listener.accept())
    async with closing_both(*ends) as pair:
        assert [connection_of(end).peer_supports for end in pair] == [EVERYTHING, EVERYTHING]


async def test_a_server_knows_what_each_client_can_do(listener: tofu.Listener) -> None:
    for headers, supports in (
        (b"", NO_EXTENSION),
        (b"~supports:whole,later\r\n", Extension.WHOLE),
        (b"~connect_to:x\r\n~supports:cancel\r\n", Extension.CANCEL),
    ):
        with await RawPeer.connect(listener.address) as peer:
            await peer.send(frame(OpCode.HELLO_REQUEST, headers=headers))
            channel = await listener.accept()
            assert (await peer.message()).headers["~supports"] == "cancel,whole,drain"
            assert connection_of(channel).peer_supports == supports
            channel.abort()


async def test_a_client_knows_what_the_server_can_do(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    for headers, supports in (
        (b"", NO_EXTENSION),
        (b"~supports:cancel\r\n", Extension.CANCEL),
        (b"~connect_to:x\r\n~supports:cancel\r\n", NO_EXTENSION),
    ):
        connecting = asyncio.create_task(group.connect(raw_server.address))
        with await raw_server.accept() as peer:
            hello = await peer.message()
            assert hello.headers["~supports"] == "cancel,whole,drain"
            await peer.send(
                frame(OpCode.HELLO_RESPONSE, headers=headers, message_id=hello.message_id)
            )
            channel = await connecting
            assert connection_of(channel).peer_supports == supports
            channel.abort()


async def test_a_posted_hello_is_the_applications_own(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    where = {"~connect_to": raw_server.address.to_header()}
    group.post(Message(OpCode.HELLO_REQUEST, headers=where))
    with await raw_server.accept() as peer:
        assert (await peer.message()).headers == where

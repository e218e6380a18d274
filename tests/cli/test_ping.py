"""``tofu ping``: round trips, their summary, and exit codes."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl

import pytest

import tofu_aio as tofu
from tests.cli.certificates import Files
from tests.cli.processes import Run, Start, signals, unix
from tofu_aio.cli.ping import _Plan, _round_trip, _Tally
from tofu_aio.cli.serve import echo
from tofu_aio.protocol.status import Status

ROUND_TRIP = re.compile(r"seq=\d+ size=64 time=\d+\.\d{3} ms")
SPREAD = re.compile(r"round trip min/avg/max/p99 = \d+\.\d{3}(/\d+\.\d{3}){3} ms")


@pytest.mark.parametrize("loop", ["reactor", "auto"])
def test_a_line_a_round_trip_and_a_summary(start: Start, loop: str) -> None:
    address = start("serve", "tcp://127.0.0.1:0").listening()
    ended = start("ping", "-c", "3", "-i", "0", "--loop", loop, address).finish()
    assert (ended.code, ended.err) == (0, "")
    first, *trips, blank, counts, spread = ended.out.splitlines()
    assert (first, blank) == (f"connected to {address}: 64 bytes per request", "")
    assert [trip.partition(" ")[0] for trip in trips] == ["seq=1", "seq=2", "seq=3"]
    assert all(map(ROUND_TRIP.fullmatch, trips))
    assert counts == f"{address}: 3 sent, 3 answered, 0% lost"
    assert SPREAD.fullmatch(spread)


def test_the_largest_body(start: Start) -> None:
    address = start("serve", "tcp://127.0.0.1:0").listening()
    ended = start("ping", "-c", "1", "--size", "65535", address).finish()
    assert (ended.code, ended.err) == (0, "")
    assert "seq=1 size=65535 time=" in ended.out


@signals
@pytest.mark.parametrize(
    ("loop", "number"),
    [("reactor", signal.SIGINT), ("asyncio", signal.SIGTERM), ("auto", signal.SIGINT)],
)
def test_ctrl_c_prints_the_summary(start: Start, loop: str, number: int) -> None:
    address = start("serve", "tcp://127.0.0.1:0").listening()
    ping = start("ping", "-i", "100", "--loop", loop, address)
    ping.line()
    ping.line()
    ended = ping.stop(number)
    assert (ended.code, ended.err) == (0, "")
    assert "1 sent, 1 answered, 0% lost" in ended.out


@signals
def test_a_server_that_is_killed(start: Start) -> None:
    serve = start("serve", "tcp://127.0.0.1:0")
    ping = start("ping", "-i", "0", serve.listening())
    ping.line()
    ping.line()
    serve.stop(signal.SIGKILL)
    ended = ping.finish()
    assert ended.code == 0  # there was a response
    assert "connection" in ended.complaint


async def test_a_server_that_does_not_answer(group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        async with client, server:
            tally = _Tally()
            plan = _Plan(count=None, interval=0, size=64, timeout=0.01)
            assert await _round_trip(client, plan, tally) == "no response within 0.01 s"
            assert tally.summary(listener.address) == (
                f"\n{listener.address}: 1 sent, 0 answered, 100% lost"
            )


async def test_a_server_that_closes(start: Start, group: tofu.ChannelGroup) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        ping = start("ping", "-c", "2", str(listener.address))
        async with await listener.accept() as channel:
            (await channel.receive()).release()
        ended = await asyncio.to_thread(ping.finish)
    assert ended.code == 1
    assert ended.out.splitlines()[2] == f"{listener.address}: 1 sent, 0 answered, 100% lost"
    assert ended.complaint.startswith("the peer said Bye")


async def test_a_response_with_an_error_status_counts(
    start: Start, group: tofu.ChannelGroup
) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        ping = start("ping", "-c", "1", str(listener.address))
        async with await listener.accept() as channel:
            with await channel.receive() as request:
                await channel.reply(request, status=Status.NOT_ALLOWED)
            ended = await asyncio.to_thread(ping.finish)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].endswith("ms status=not_allowed")


def test_a_server_that_is_not_tofu(tofu_run: Run, http_server: str) -> None:
    ended = tofu_run("ping", http_server)
    assert (ended.code, ended.out) == (1, "")
    assert f"{http_server} did not accept the channel" in ended.complaint


def test_a_server_that_says_nothing(tofu_run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ended = tofu_run("ping", "-W", "0.05", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
    assert ended.code == 1
    assert "did not accept the channel within 0.05 s: is it a tofu peer" in ended.complaint


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://name.invalid:7000", "'name.invalid' has no address"),
        ("tcp://*:7000", "is for listening"),
        pytest.param("uds:///none/s", "there is no socket at uds:///none/s", marks=unix),
        pytest.param(f"uds:///{'x' * 200}", "choose a shorter one", marks=unix),
        pytest.param(f"uds://{__file__}", "nobody is listening there", marks=unix),
    ],
)
def test_an_address_that_cannot_be_reached(tofu_run: Run, address: str, reason: str) -> None:
    ended = tofu_run("ping", address)
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.complaint


def test_nobody_listens(tofu_run: Run) -> None:
    with socket.socket() as bound:
        bound.bind(
            ("127.0.0.1", 0)
        )  # bound by this test, so that no other program can listen on it
        ended = tofu_run("ping", f"tcp://127.0.0.1:{bound.getsockname()[1]}")
    assert (ended.code, ended.out) == (1, "")
    assert "nobody is listening there: start the listener first" in ended.complaint


async def test_headers_are_in_the_hello_and_in_each_request(
    start: Start, group: tofu.ChannelGroup
) -> None:
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        ping = start("ping", "-c", "1", "-H", "token: a:b", "-H", "x:1", str(listener.address))
        async with await listener.accept() as channel:
            with await channel.receive() as request:
                for headers in (request.headers, channel.hello.headers):
                    assert (headers["token"], headers["x"]) == ("a:b", "1")
                await channel.reply(request)
            ended = await asyncio.to_thread(ping.finish)
    assert (ended.code, ended.err) == (0, "")


async def test_tls(start: Start, group: tofu.ChannelGroup, files: Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server)
    listener = await group.listen("tcp://127.0.0.1:0", ssl=context)
    address = f"tcp://localhost:{listener.address.port}"
    async with listener:
        serving = asyncio.create_task(listener.serve(echo))
        once = ("ping", "-c", "1", address)
        ended = await asyncio.to_thread(start(*once, "--cafile", files.ca).finish)
        assert (ended.code, ended.err) == (0, "")
        ended = await asyncio.to_thread(start(*once, "--tls").finish)
        assert ended.code == 1
        assert "certificate" in ended.complaint
    await serving

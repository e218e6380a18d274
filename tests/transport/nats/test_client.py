"""What is used of nats-py beside its public interface exists, and does what it is taken to do."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tests.transport.nats.brokers import Broker
from tests.transport.nats.conftest import Start


def test_the_private_names_are_there() -> None:
    from nats.aio.client import Client

    assert list(inspect.signature(Client._close).parameters) == ["self", "status", "do_cbs"]
    assert list(inspect.signature(Client._process_info).parameters)[1:] == [
        "info",
        "initial_connection",
    ]
    assert list(inspect.signature(Client._select_next_server).parameters) == ["self"]
    for name in ("_send_unsubscribe", "_remove_sub", "_process_pong", "_process_msg", "_read_loop"):
        assert callable(getattr(Client, name))


@contextlib.asynccontextmanager
async def connected(broker: Broker) -> AsyncIterator[tuple[Any, list[bool], list[Exception]]]:
    """A client, a list that has an item once it is over, and the errors that it reports."""
    from tofu_aio.transport.nats.client import Client

    address = tofu.parse_address(broker.url())
    assert isinstance(address, tofu.NatsAddress)
    over: list[bool] = []
    errors: list[Exception] = []
    client = Client(address.brokers[0], address)
    await client.open(None)
    client.hand_over(lambda _: None, errors.append, lambda: over.append(True))
    try:
        yield client, over, errors
    finally:
        await client.close()


async def test_an_answer_that_nobody_waits_for_does_no_harm(broker: Broker) -> None:
    async with connected(broker) as (client, over, _):
        settling = asyncio.create_task(client.settle())
        await asyncio.sleep(0)
        assert client._pongs
        settling.cancel()
        await asyncio.wait([settling])
        assert settling.cancelled()
        await client.settle()  # behind the answer to the first ping
        assert not over


async def test_reading_that_ends_for_any_reason_is_the_end_of_the_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(broker) as (client, over, _):

        async def fail() -> None:
            raise KeyError("x")

        monkeypatch.setattr(client, "_process_pong", fail)
        client.transport.write(b"PING\r\n")
        await until(lambda: bool(over))
        assert over == [True]
        assert client.is_closed
    assert "encountered error" in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        b"PUB tofu.%s a\xff.o0-16384 0\r\n\r\n",
        b"PUB tofu.%s " + b"a" * 4060 + b".o0-16384 0\r\n\r\n",
        b"PUB tofu.%s a.>.o0-16384 0\r\n\r\n",
        b"PUB tofu.%s a\vb.o0-16384 3\r\nxyz\r\n",
        b"PUB tofu.%s a\f7.o0-16384 0\r\n\r\n" * 3,
        b"PUB tofu.%s a\rb.o0-16384 5000\r\n" + bytes(5000) + b"\r\n",
        b"HPUB tofu.%s a\vb.o0 12 15\r\nNATS/1.0\r\n\r\nxyz\r\n",
        b"PUB tofu.%s a\vb.o0-16384 40000\r\n" + b"MSG \n" * 8000 + b"\r\n",
        b"HPUB tofu.%s a.o0 2 2\r\n\r\n\r\n",
        b"HPUB tofu.%s a.o0 15 15\r\nNATS/1.0 \xff\xff\r\n\r\n\r\n",
    ],
)
async def test_a_hostile_message_is_dropped(
    group: tofu.ChannelGroup, broker: Broker, message: bytes
) -> None:
    url = broker.url("hostile")
    async with await group.listen(url) as listener:
        client, server = await asyncio.gather(group.connect(url), listener.accept())
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        await reader.readline()  # INFO
        writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
        writer.write(message.replace(b"%s", b"hostile") + b"PING\r\n")
        assert await reader.readline() == b"PONG\r\n"
        writer.close()
        await writer.wait_closed()
        for _ in range(3):  # its answer to the message, if it gave one, is handled meanwhile
            answering = asyncio.create_task(client.request(b"x"))
            request = await server.receive()
            await server.reply(request, b"y")
            assert (await answering).body == b"y"
        await asyncio.gather(client.aclose(), server.aclose())


async def test_a_subscription_gives_each_message_to_its_future(broker: Broker) -> None:
    from tofu_aio.transport.nats.client import Inbox

    async with connected(broker) as (client, over, errors):
        got: list[bytes] = []
        found: Any = await client.subscribe(
            "x", future=Inbox(lambda message: got.append(message.data))
        )
        for number in range(1000):
            await client.publish("x", b"%d" % number)
        await client.settle()
        assert got == [b"%d" % number for number in range(1000)]
        assert found._pending_queue.qsize() == 0
        await client.publish("x", b"before")
        await client.give_up(found)
        assert got[-1] == b"before"
        assert client.transport is not None
        assert not over
        await client.close()
        assert over == [True]
        assert client.transport.is_closing()
        assert not errors


async def test_closing_does_not_wait_for_a_broker_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tofu_aio.transport.nats import client as client_module

    monkeypatch.setattr(client_module, "CLOSE_TIMEOUT", 0.05)
    greeted = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "x", "headers": true, "max_payload": 1048576}\r\n')
        for _ in range(3):  # while it is opened
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
        await greeted.wait()
        writer.transport.abort()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    address = tofu.parse_address(f"nats://127.0.0.1:{port}/x")
    assert isinstance(address, tofu.NatsAddress)

    client = client_module.Client(address.brokers[0], address)
    await client.open(None)
    assert client.transport is not None
    client.transport.write(bytes(32 * 1024 * 1024))
    await client.publish("x", b"last")
    await client.close()
    assert client.transport.is_closing()
    greeted.set()
    server.close()
    await server.wait_closed()


async def test_aborting_a_connection_that_has_sent_its_last_bytes_does_nothing() -> None:
    """On some versions of Python asyncio's own would fail then."""
    from tofu_aio.transport.nats.dialling import dialled

    over = asyncio.Event()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(read, "127.0.0.1", 0, limit=1024)
    streams = await dialled(tofu.TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1]))
    streams.write(bytes(32 * 1024 * 1024))
    assert streams.unsent()
    streams.close()
    await streams.wait_closed()
    streams.abort()
    assert not streams.unsent()
    await over.wait()
    server.close()
    await server.wait_closed()


async def test_a_broker_without_headers(group: tofu.ChannelGroup, start: Start) -> None:
    own = start("no_header_support: true")
    with pytest.raises(tofu.ConnectFailed, match="no headers: remove no_header_support"):
        await group.connect(own.url())
    with pytest.raises(tofu.ListenFailed, match="no headers: remove no_header_support"):
        await group.listen(own.url())


async def test_without_nats_py_the_error_names_the_extra(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nats"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("brokers", "client", "dialling", "parser"):
        monkeypatch.delitem(sys.modules, f"tofu_aio.transport.nats.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(tofu.ConnectFailed, match=r"needs the package nats-py: .*tofu-aio\[nats\]"):
        await group.connect("nats://127.0.0.1/x")
    with pytest.raises(tofu.ListenFailed, match=r"needs the package nats-py: .*tofu-aio\[nats\]"):
        await group.listen("nats://127.0.0.1/x")


def test_it_is_imported_when_it_is_used() -> None:
    """Who uses no broker need not have it."""
    code = "import sys, tofu_aio, tofu_aio.cli.app; print('nats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


async def test_a_credentials_file_needs_nkeys(
    group: tofu.ChannelGroup, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    with pytest.raises(tofu.ConnectFailed, match=r"needs the package nkeys: .*tofu-aio\[nats\]"):
        await group.connect(broker.url() + "?credentials=/none")

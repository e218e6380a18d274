"""Opening channels: which listener gets a client, and every way in which a broker may refuse."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import new_authority
from tests.messaging.peers import turns, until
from tests.transport.nats.brokers import Broker
from tests.transport.nats.conftest import Start
from tofu_aio.transport.nats.chunk import Chunk
from tofu_aio.transport.nats.link import Link
from tofu_aio.transport.nats.opening import _Opening

USERS = """
authorization {
  users = [
    { user: all, password: "se:cret" }
    { user: caller, password: "x", permissions: {
        publish: ["tofu.open", "_INBOX.>"], subscribe: ["_INBOX.>"] } }
    { user: deaf, password: "x", permissions: { publish: ">", subscribe: ["tofu.>"] } }
  ]
}
"""


@contextlib.asynccontextmanager
async def echoing(
    group: tofu.ChannelGroup, address: str | tofu.Address, **options: object
) -> AsyncIterator[tofu.Listener]:
    """A listener whose channels echo."""
    listener = await group.listen(address, **options)  # type: ignore[arg-type]

    async def echo(channel: tofu.Channel) -> None:
        async for message in channel:
            await channel.reply(message, message.body)

    serving = asyncio.create_task(listener.serve(echo))
    try:
        yield listener
    finally:
        await listener.aclose()
        await serving


async def test_nobody_listens(group: tofu.ChannelGroup, broker: Broker) -> None:
    """The broker says so at once: nothing waits for a timeout."""
    with pytest.raises(tofu.ConnectFailed, match=r"nobody listens on nats://127.*start a listener"):
        await group.connect(broker.url("nobody"), timeout=3600)


async def test_what_both_ends_know_of_each_other(group: tofu.ChannelGroup, broker: Broker) -> None:
    url = broker.url("known")
    async with await group.listen(url) as listener:
        assert str(listener.address) == url
        client, server = await asyncio.gather(group.connect(url), listener.accept())
        assert str(client.peer.address) == url
        assert isinstance(server.peer.address, tofu.NatsAddress)
        assert server.peer.address.service.startswith("_INBOX.")
        assert server.hello.headers["~connect_to"] == f"nats|127.0.0.1:{broker.port}|known"
        assert client.peer.credentials is None
        await asyncio.gather(client.aclose(), server.aclose())


async def test_all_channels_share_a_connection_and_the_last_closes_it(
    group: tofu.ChannelGroup, start: Start
) -> None:
    own = start()

    def connections() -> int:
        return int(own.state()["connections"])

    async with echoing(group, own.url()) as listener:
        channels = await asyncio.gather(*(group.connect(listener.address) for _ in range(20)))
        assert connections() == 1
        for channel in channels:
            assert (await channel.request(b"x")).body == b"x"
        await asyncio.gather(*(channel.aclose() for channel in channels))
    await until(lambda: connections() == 0)


async def test_clients_are_spread_over_the_listeners(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    url = broker.url("spread")
    async with contextlib.AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(await group.listen(url)) for _ in range(3)]
        taken: Counter[int] = Counter()

        async def take(number: int) -> None:
            async def count(channel: tofu.Channel) -> None:
                taken[number] += 1
                async for _ in channel:
                    pass

            await listeners[number].serve(count)

        tasks = [asyncio.create_task(take(number)) for number in range(3)]
        for _ in range(60):
            async with group.connect(url):
                pass
        for listener in listeners:
            await listener.aclose()
        await asyncio.gather(*tasks)
        assert sum(taken.values()) == 60
        assert len(taken) == 3  # all the same one with a probability of 1e-10


async def test_a_full_listener_leaves_the_next_client_to_another(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    url = broker.url("full")
    async with (
        await group.listen(url, max_channels=2) as small,
        await group.listen(url, max_channels=3) as large,
    ):
        taken: list[tofu.Channel] = []

        async def take(listener: tofu.Listener) -> None:
            async for channel in listener:
                taken.append(channel)  # noqa: PERF401 - it is looked at meanwhile

        tasks = [asyncio.create_task(take(listener)) for listener in (small, large)]
        clients = await asyncio.gather(*(group.connect(url) for _ in range(5)))
        with pytest.raises(tofu.ConnectFailed, match="or all who do are full"):
            await group.connect(url)
        leaver = clients.pop()
        await leaver.aclose()

        async def connected() -> tofu.Channel:
            """Once the listener with room is back in the queue group."""
            while True:
                with contextlib.suppress(tofu.ConnectFailed):
                    return await group.connect(url)

        clients.append(await connected())
        await asyncio.gather(*(client.aclose() for client in clients))
        await small.aclose()
        await large.aclose()
        await asyncio.gather(*tasks)
    assert len(taken) == 6


async def test_a_draining_listener_leaves_the_next_client_to_another(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    url = broker.url("draining")
    async with echoing(group, url) as old:
        first = await group.connect(url)
        async with echoing(group, url):
            draining = asyncio.create_task(old.drain())
            await first.wait_draining()
            for _ in range(20):
                async with group.connect(url) as channel:
                    assert (await channel.request(b"x")).body == b"x"
            assert (await first.request(b"still here")).body == b"still here"
            await first.aclose()
            await draining


async def test_a_client_that_gives_up_leaves_nothing(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    """At each point of opening a channel."""
    async with echoing(group, broker.url("given-up")) as listener:
        for patience in range(40):
            connecting = asyncio.ensure_future(group.connect(listener.address))
            for _ in range(patience):
                await asyncio.sleep(0)
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await connecting).abort()
        async with group.connect(listener.address) as channel:
            assert (await channel.request(b"x")).body == b"x"


async def test_a_listener_that_accepts_while_the_client_gives_up_is_told(
    group: tofu.ChannelGroup, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its only place would be taken until the timeout of the Hello."""
    real = _Opening.arrived
    connecting: asyncio.Future[tofu.Channel]

    def arrived(opening: _Opening, inbox: str, what: Chunk, payload: bytes) -> None:
        connecting.cancel()  # in the very turn in which the answer arrives
        real(opening, inbox, what, payload)

    url = broker.url("late")
    async with echoing(group, url, max_channels=1, hello_timeout=3600):
        with monkeypatch.context() as patched:
            patched.setattr(_Opening, "arrived", arrived)
            connecting = asyncio.ensure_future(group.connect(url))
            await asyncio.wait([connecting])
        assert connecting.cancelled()
        while True:
            with contextlib.suppress(tofu.ConnectFailed):
                channel = await group.connect(url)
                break
            await asyncio.sleep(0.001)
        assert (await channel.request(b"x")).body == b"x"
        await channel.aclose()


async def test_an_attempt_that_is_cancelled_and_fails_all_the_same_is_no_error_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, nothing_goes_unheard: list[dict[str, object]]
) -> None:
    """As nats-py does it now and then, where the broker refuses the connection meanwhile."""

    failed = 0

    async def fail(*_: object) -> None:
        nonlocal failed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            failed += 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused") from None

    monkeypatch.setattr("tofu_aio.transport.nats.client.Client.open", fail)

    async def cancelled() -> None:
        broker = tofu.TcpAddress("127.0.0.1", 4222)
        link = Link(tofu.NatsAddress((broker,), "service"), None, lambda _: None)
        joining = asyncio.create_task(link.join())
        await turns(5)
        joining.cancel()
        await asyncio.wait([joining])

    await cancelled()
    assert failed == 1
    gc.collect()
    assert not nothing_goes_unheard


async def test_a_listen_that_is_cancelled_is_no_member_of_the_group(
    group: tofu.ChannelGroup, start: Start
) -> None:
    """At each point of listening, beside another listener that keeps the connection."""
    own = start()

    def subscriptions() -> list[str]:
        found = own.state("connz?subs=1")["connections"]
        return [name for one in found for name in one["subscriptions_list"] if "tofu" in name]

    async with echoing(group, own.url("other")) as other:
        for patience in range(12):
            listening = asyncio.ensure_future(group.listen(own.url()))
            for _ in range(patience):
                await asyncio.sleep(0)
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await listening).aclose()
        await until(lambda: subscriptions() == ["tofu.other"])
        async with echoing(group, own.url()):
            for _ in range(10):
                async with group.connect(own.url()) as channel:
                    assert (await channel.request(b"x")).body == b"x"
        async with group.connect(other.address) as channel:
            assert (await channel.request(b"x")).body == b"x"


async def test_a_listener_that_is_refused_leaves_no_subscription(
    group: tofu.ChannelGroup, start: Start
) -> None:
    from tofu_aio.protocol.address import NatsAddress
    from tofu_aio.transport.nats.links import joined

    address = tofu.parse_address(start(USERS).url("open", "caller:x@"))
    assert isinstance(address, NatsAddress)
    link = await joined(address, None)
    assert link._client is not None
    for _ in range(3):
        with pytest.raises(tofu.ListenFailed, match="not permit to listen"):
            await group.listen(address)
    assert len(link._client._subs) == 1
    await link.part()


# --- brokers that refuse ------------------------------------------------------------------------


@pytest.mark.parametrize("proof", ["", "nobody:wrong@", "all:wrong@", "token@"])
async def test_a_wrong_password(group: tofu.ChannelGroup, start: Start, proof: str) -> None:
    own = start(USERS)
    with pytest.raises(tofu.ConnectFailed, match="the broker refuses this user") as connecting:
        await group.connect(own.url(proof=proof))
    with pytest.raises(tofu.ListenFailed, match="the broker refuses this user") as listening:
        await group.listen(own.url(proof=proof))
    for error in (connecting, listening):
        assert "wrong" not in str(error.value)
        assert "token@" not in str(error.value)


async def test_the_right_password_is_seen_by_nobody(
    group: tofu.ChannelGroup, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own = start(USERS)
    url = own.url(proof="all:se%3Acret@")
    async with await group.listen(url) as listener:
        # The address of the listener keeps the password, and shows it to nobody.
        client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
        seen = [server.hello, listener, listener.address, client.peer, server.peer, client]
        assert "cret" not in f"{seen} {server.hello.headers.pairs} {listener.address}"
        await asyncio.gather(client.aclose(), server.aclose())
        posted = {"A": "b", tofu.CONNECT_TO: url}
        group.post(tofu.Message(tofu.OpCode.HELLO_REQUEST, headers=posted))
        async with await listener.accept() as server:
            assert server.hello.headers.pairs == (
                ("A", "b"),
                (tofu.CONNECT_TO, f"nats|127.0.0.1:{own.port}|service"),
            )
            (await group.receive()).release()
            server.abort()
    assert "cret" not in caplog.text


async def test_a_token(group: tofu.ChannelGroup, start: Start) -> None:
    own = start("authorization { token: T0ken }")
    async with echoing(group, own.url(proof="T0ken@")) as listener:
        channel = await group.connect(listener.address)
        assert (await channel.request(b"x")).body == b"x"
        await channel.aclose()


async def test_a_subject_without_permission(group: tofu.ChannelGroup, start: Start) -> None:
    own = start(USERS)
    async with echoing(group, own.url("closed", "all:se%3Acret@")):
        with pytest.raises(tofu.ConnectFailed, match=r"not permit publish to 'tofu[.]closed'"):
            await group.connect(own.url("closed", "caller:x@"))
    async with echoing(group, own.url("open", "all:se%3Acret@")):
        channel = await group.connect(own.url("open", "caller:x@"))
        assert (await channel.request(b"x")).body == b"x"
        await channel.aclose()
    with pytest.raises(tofu.ListenFailed, match=r"not permit to listen on 'tofu[.]open'"):
        await group.listen(own.url("open", "caller:x@"))
    with pytest.raises(tofu.ConnectFailed, match="does not permit subscription to '_inbox"):
        await group.connect(own.url("open", "deaf:x@"))


async def test_a_port_without_a_broker(group: tofu.ChannelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening there: start the broker"):
        await group.connect(f"nats://127.0.0.1:{port}/x")
    with pytest.raises(tofu.ListenFailed, match=r":\d+: nobody .*; \w+.*:\d+: nobody"):
        await group.listen(f"nats://127.0.0.1:{port},localhost:{port}/x")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {\r\n", b""])
async def test_what_listens_is_no_broker(group: tofu.ChannelGroup, greeting: bytes) -> None:
    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(tofu.ConnectFailed, match="there is no NATS broker: check host"):
            await group.connect(f"nats://127.0.0.1:{port}/x")
    finally:
        server.close()
        await server.wait_closed()


async def test_a_broker_that_says_nothing(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.transport.nats import client

    monkeypatch.setattr(client, "BROKER_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(tofu.ConnectFailed, match="no NATS broker has answered there within"):
            await group.connect(f"nats://127.0.0.1:{port}/x")


@pytest.fixture
def black_holes() -> Iterator[list[int]]:
    """Ports where nobody ever answers: one accepts in the kernel, and one not even there."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than the backlog holds; what is beyond is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield [server.getsockname()[1] for server in (silent, full)]


async def test_black_holes_do_not_delay_a_broker_that_works(
    group: tofu.ChannelGroup,
    broker: Broker,
    black_holes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tofu_aio.transport.nats import brokers, client, dialling

    for module in (client, dialling):
        monkeypatch.setattr(module, "BROKER_TIMEOUT", 3600)  # so that the test cannot wait for it
    monkeypatch.setattr(brokers, "BROKER_DELAY", 0.01)
    monkeypatch.setattr(brokers, "shuffle", lambda found: found.sort(key=lambda b: b.port == last))
    last = broker.port
    before = len(asyncio.all_tasks())
    hosts = ",".join(f"127.0.0.1:{port}" for port in [*black_holes, broker.port])
    async with echoing(group, f"nats://{hosts}/several") as listener:
        assert len(asyncio.all_tasks()) < before + 20
        async with group.connect(listener.address) as channel:
            assert (await channel.request(b"x")).body == b"x"
    assert not [task for task in asyncio.all_tasks() if "tofu connect" in task.get_name()]


async def test_of_two_brokers_that_work_the_slower_is_left(
    group: tofu.ChannelGroup, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.transport.nats import brokers

    monkeypatch.setattr(brokers, "BROKER_DELAY", 0)
    both = [start(), start()]
    hosts = ",".join(f"127.0.0.1:{own.port}" for own in both)
    async with echoing(group, f"nats://{hosts}/several"):
        await until(lambda: sum(own.state()["connections"] for own in both) == 1)
        async with group.connect(f"nats://{hosts}/several") as channel:
            assert (await channel.request(b"x")).body == b"x"
    await until(lambda: not any(own.state()["connections"] for own in both))


async def test_if_no_broker_answers_each_is_named(
    group: tofu.ChannelGroup, black_holes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.transport.nats import client, dialling

    for module in (client, dialling):
        monkeypatch.setattr(module, "BROKER_TIMEOUT", 0.05)
    hosts = ",".join(f"127.0.0.1:{port}" for port in black_holes)
    with pytest.raises(tofu.ConnectFailed, match="no NATS broker has answered") as failed:
        await group.connect(f"nats://{hosts}/x")
    assert all(f"127.0.0.1:{port}: no NATS broker" in str(failed.value) for port in black_holes)


async def test_a_dead_broker_is_passed_over(group: tofu.ChannelGroup, broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = server.getsockname()[1]
    url = f"nats://127.0.0.1:{dead},127.0.0.1:{broker.port}/several"
    async with echoing(group, url), group.connect(url) as channel:
        assert (await channel.request(b"x")).body == b"x"


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path, start: Start) -> tuple[Broker, ssl.SSLContext]:
    """A broker that demands TLS, and the context for its clients."""
    authority = new_authority()
    certificate = authority.issue_cert("127.0.0.1")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return start(f'tls {{ cert_file: "{chain}", key_file: "{key}" }}'), context


async def test_tls_to_the_broker(
    group: tofu.ChannelGroup, sealed: tuple[Broker, ssl.SSLContext]
) -> None:
    own, context = sealed
    url = own.url().replace("nats://", "nats+tls://")
    async with echoing(group, url, ssl=context), group.connect(url, ssl=context) as channel:
        assert (await channel.request(b"x")).body == b"x"
        assert str(channel.peer.address) == url
    with pytest.raises(tofu.ConnectFailed, match="TLS with the broker has failed"):
        await group.connect(url)


async def test_no_password_is_sent_to_a_broker_without_tls(group: tofu.ChannelGroup) -> None:
    said = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "x", "max_payload": 1048576}\r\n')
        said.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        for url in (
            f"nats+tls://u:secret@127.0.0.1:{port}/x",
            f"nats://u:secret@127.0.0.1:{port}/x",
        ):
            context = None if "tls" in url else ssl.create_default_context()
            with pytest.raises(tofu.ConnectFailed, match="the broker offers no TLS"):
                await group.connect(url, ssl=context)
    finally:
        server.close()
        await server.wait_closed()
    assert not said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"reuse_port": True}, "reuse_port is for TCP ports only"),
        ({"mode": 0o600}, "mode is for the files of Unix sockets"),
        ({"max_connections_per_address": 3}, "max_connections_per_address is for TCP"),
    ],
)
async def test_options_of_sockets_are_refused(
    group: tofu.ChannelGroup, option: dict[str, object], words: str
) -> None:
    with pytest.raises(tofu.WrongAddress, match=words):
        await group.listen("nats://127.0.0.1/x", **option)  # type: ignore[arg-type]
    with pytest.raises(tofu.WrongAddress, match="leave out server_hostname"):
        await group.connect(
            "nats://127.0.0.1/x", ssl=ssl.create_default_context(), server_hostname="x"
        )

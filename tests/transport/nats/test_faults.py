"""What happens to channels when brokers, peers or chunks are lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

import tofu_aio as tofu
from tests.messaging.peers import connection_of, settled, transport_of, until
from tests.transport.nats.brokers import Broker, cluster, handled, missing
from tests.transport.nats.conftest import Start
from tests.transport.nats.test_opening import echoing
from tofu_aio.transport.nats.limits import CHUNK_COST, MAX_WINDOW
from tofu_aio.transport.nats.stream import NatsStream

nats = pytest.importorskip("nats", reason=str(missing()))


def stream_of(channel: tofu.Channel) -> NatsStream:
    """The transport of a channel."""
    found = transport_of(channel)
    assert isinstance(found, NatsStream)
    return found


@contextlib.asynccontextmanager
async def connected(
    group: tofu.ChannelGroup, url: str, **options: object
) -> AsyncIterator[tuple[tofu.Channel, tofu.Channel]]:
    """Both ends of a channel. At the end they are aborted."""
    async with await group.listen(url, **options) as listener:  # type: ignore[arg-type]
        client, server = await asyncio.gather(
            group.connect(url, **options),  # type: ignore[arg-type]
            listener.accept(),
        )
        try:
            yield client, server
        finally:
            client.abort()
            server.abort()


async def lost(channel: tofu.Channel) -> tofu.TofuError:
    """Receive until the channel ends, and return why."""
    while True:
        try:
            (await channel.receive()).release()
        except tofu.TofuError as error:
            return error


# --- brokers ------------------------------------------------------------------------------------


async def test_what_is_sent_when_the_socket_is_closed_already_is_dropped(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    """The loss is reported in a later turn, and then the channel has ended."""
    async with connected(group, broker.url("dropped")) as (client, _):
        transport = stream_of(client)._carrier._client.transport  # type: ignore[attr-defined]
        await client.signal(b"x")
        transport.abort()
        assert isinstance(await lost(client), tofu.PeerDisconnected)


async def test_a_killed_broker_ends_all_channels_and_listeners_wait_for_the_next(
    group: tofu.ChannelGroup, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tofu_aio.listener")
    own = start()
    async with echoing(group, own.url()) as listener:
        channels = [await group.connect(own.url()) for _ in range(10)]
        ended: Counter[str] = Counter()

        async def call(channel: tofu.Channel) -> None:
            """Without a pause, until the channel is lost."""
            while True:
                try:
                    response = await channel.request(bytes(5000))
                except tofu.TofuError as error:
                    ended[type(error).__name__] += 1
                    return
                assert len(response.body) == 5000
                ended["answered"] += 1

        calls = [asyncio.create_task(call(channel)) for channel in channels for _ in range(4)]
        await until(lambda: ended["answered"] > 400)
        own.kill()
        await asyncio.gather(*calls)
        assert ended["PeerDisconnected"] == len(calls)
        assert {type(channel.end) for channel in channels} == {tofu.PeerDisconnected}
        with pytest.raises(tofu.ConnectFailed, match="nobody is listening there"):
            await group.connect(own.url())
        start(port=own.port)

        async def again() -> tofu.Channel:
            while True:
                with contextlib.suppress(tofu.ConnectFailed):
                    return await group.connect(listener.address)
                await asyncio.sleep(0.01)

        channel = await again()
        assert (await channel.request(b"x")).body == b"x"
        await channel.aclose()
    # asyncio logs slow callbacks as well, on a busy machine.
    records = [record for record in caplog.records if record.name == "tofu_aio.listener"]
    lines = [record.getMessage() for record in records]
    assert [line.partition(": ")[2].partition(":")[0] for line in lines][:1] == [
        "nobody can connect"
    ]
    assert ["clients can connect again" in line for line in lines] == [False, True]


async def test_a_frozen_broker_is_a_lost_peer_and_closing_does_not_wait_for_it(
    group: tofu.ChannelGroup, start: Start
) -> None:
    own = start()
    async with connected(group, own.url(), heartbeat=0.05) as (client, server):
        call = asyncio.create_task(client.request(b"x"))
        flood = asyncio.create_task(client.send(tofu.Message(tofu.OpCode.SIGNAL, bytes(60_000))))
        await flood
        own.freeze()
        for end in (client, server):
            assert isinstance(await lost(end), tofu.PeerDisconnected)
        with pytest.raises(tofu.PeerDisconnected):
            await call
    own.thaw()


async def test_a_frozen_broker_that_thaws_in_time_has_lost_nothing(
    group: tofu.ChannelGroup, start: Start
) -> None:
    own = start()
    async with echoing(group, own.url()), group.connect(own.url()) as channel:
        own.freeze()
        calls = [asyncio.create_task(channel.request(b"%d" % n)) for n in range(100)]
        await settled(channel)
        own.thaw()
        for number, call in enumerate(calls):
            assert (await call).body == b"%d" % number


async def test_a_cluster_carries_channels_and_a_listener_moves_to_another_broker(
    group: tofu.ChannelGroup,
) -> None:
    if (text := missing()) is not None:
        pytest.skip(text)
    with cluster() as brokers:
        all_of_them = ",".join(f"127.0.0.1:{broker.port}" for broker in brokers)
        url = f"nats://{all_of_them}/moving"
        async with echoing(group, url):
            for broker in brokers:
                async with group.connect(broker.url("moving")) as channel:
                    assert (await channel.request(b"x")).body == b"x"
            for broker in brokers[:2]:  # the listener is on one of them, or on the third
                broker.kill()
                survivors = [other for other in brokers if other._process.returncode is None]
                where = survivors[-1].url("moving")
                while True:
                    with contextlib.suppress(tofu.ConnectFailed):
                        channel = await group.connect(where)
                        break
                    await asyncio.sleep(0.02)
                assert (await channel.request(b"x")).body == b"x"
                channel.abort()
                await until(lambda channel=channel: connection_of(channel).gone)  # type: ignore[misc]


@pytest.mark.parametrize("most", [100, 4096])
async def test_chunks_fit_into_what_the_broker_takes(
    group: tofu.ChannelGroup, start: Start, most: int
) -> None:
    own = start(f"max_payload: {most}")
    body = bytes(range(256)) * 200
    async with echoing(group, own.url()), group.connect(own.url()) as channel:
        assert (await channel.request(body)).body == body


# --- peers --------------------------------------------------------------------------------------


@pytest.fixture
def process(broker: Broker) -> Iterator[subprocess.Popen[str]]:
    """A process that echoes on the service "process"."""
    arguments = [sys.executable, "-m", "tests.transport.nats.echoes", broker.url("process")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "listening\n"
        yield started
        started.kill()


async def test_a_killed_process_is_noticed_without_heartbeats(
    group: tofu.ChannelGroup,
    broker: Broker,
    process: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tofu_aio.transport.nats import probing

    monkeypatch.setattr(probing, "PROBE_INTERVAL", 0.02)
    channel = await group.connect(broker.url("process"), heartbeat=None)
    assert (await channel.request(b"x")).body == b"x"
    call = asyncio.create_task(channel.request(b"hang"))
    await settled(channel)
    process.kill()
    with pytest.raises(tofu.PeerDisconnected, match="has no subscriber any more"):
        await call
    with pytest.raises(tofu.ConnectFailed, match="nobody listens"):
        await group.connect(broker.url("process"))


async def test_200_clients_over_4_listeners_two_of_which_die(
    group: tofu.ChannelGroup, engine: tofu.Engine, broker: Broker
) -> None:
    """Each call is answered exactly once, or fails exactly once."""
    url = broker.url("crowd")
    answers: Counter[str] = Counter()
    served: Counter[bytes] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        groups = [await stack.enter_async_context(engine.create_group()) for _ in range(4)]
        listeners = [await each.listen(url) for each in groups]

        async def echo(channel: tofu.Channel) -> None:
            async for message in channel:
                served[bytes(message.body)] += 1
                await channel.reply(message, message.body)

        serving = [asyncio.create_task(listener.serve(echo)) for listener in listeners]
        clients = await asyncio.gather(*(group.connect(url) for _ in range(200)))

        async def call(number: int) -> None:
            for turn in range(10):
                body = b"%d %d" % (number, turn)
                try:
                    response = await clients[number].request(body)
                except tofu.TofuError:
                    answers["failed"] += 1
                    assert served[body] <= 1
                else:
                    assert response.body == body
                    assert served[body] == 1
                    answers["answered"] += 1

        calls = [asyncio.create_task(call(number)) for number in range(200)]
        await until(lambda: answers["answered"] > 200)
        for victim in groups[:2]:
            victim._abort()
        await asyncio.gather(*calls)
        assert answers.total() == 2000
        assert answers["failed"]
        assert max(served.values()) == 1
        for client in clients:
            client.abort()
        for listener in listeners:
            await listener.aclose()
        await asyncio.gather(*serving)


# --- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "payload", "words"),
    [
        ("d9", b"lost before", "was lost: the next one was 9"),
        ("d1", b"twice", "was lost: the next one was 1"),
        ("a0-1", b"", "was lost: the next one was 0"),
        ("e7", b"", "was lost: the next one was 7"),
        ("d{next}", bytes(MAX_WINDOW), "has sent more than it may"),
        ("o{next}", b"", "does not keep to the protocol"),
        ("r0", b"", "the peer has reset the channel"),
    ],
)
async def test_a_chunk_that_is_not_the_next_one_loses_the_peer(
    group: tofu.ChannelGroup, broker: Broker, tail: str, payload: bytes, words: str
) -> None:
    """A chunk that was lost or comes twice; here somebody else sends it."""
    stranger = await nats.connect(f"nats://127.0.0.1:{broker.port}")
    async with connected(group, broker.url("forged")) as (client, server):
        await client.signal(b"before")
        with await server.receive() as message:
            assert message.body == b"before"
        stream = stream_of(server)
        inbox = f"{stream._carrier.inbox}.{stream.token}"  # type: ignore[attr-defined]
        tail = tail.format(next=stream._arrived)
        await stranger.publish(inbox, payload, reply=f"{stream.peer}.{tail}")
        error = await lost(server)
        assert isinstance(error, tofu.PeerDisconnected)
        assert words in str(error)
        if tail != "r0":
            assert isinstance(await lost(client), tofu.PeerDisconnected)  # the peer was told
    await stranger.close()


@pytest.mark.parametrize("reply", ["", "x", "_INBOX.a.b.d", "_INBOX.a.b.d1-1-1", "a.zz9", ".d1"])
async def test_what_is_no_chunk_is_ignored(
    group: tofu.ChannelGroup, broker: Broker, reply: str
) -> None:
    stranger = await nats.connect(f"nats://127.0.0.1:{broker.port}")
    async with connected(group, broker.url("ignored")) as (client, server):
        stream = stream_of(server)
        inbox = f"{stream._carrier.inbox}.{stream.token}"  # type: ignore[attr-defined]
        await stranger.publish(inbox, b"junk", reply=reply)
        await stranger.publish("tofu.ignored", b"junk", reply=reply)
        await handled(stranger)
        await client.signal(b"x")
        with await server.receive() as message:
            assert message.body == b"x"
    await stranger.close()


async def test_who_writes_to_a_channel_that_is_gone_is_told(
    group: tofu.ChannelGroup, broker: Broker
) -> None:
    """A reset may be lost with a connection to a broker: the next chunk is answered again."""
    async with connected(group, broker.url("gone")) as (client, server):
        stream = stream_of(server)
        stream._tell_reset = lambda: None  # type: ignore[method-assign]
        server.abort()
        await client.signal(b"is anybody there?")
        assert "has reset the channel" in str(await lost(client))


# --- back-pressure ------------------------------------------------------------------------------


async def test_a_slow_reader_stops_its_sender_and_the_broker_holds_one_window(
    group: tofu.ChannelGroup, engine: tofu.Engine, start: Start
) -> None:
    own = start()
    async with connected(group, own.url()) as (client, server):
        sent = 0

        async def send() -> None:
            nonlocal sent
            for number in range(200):
                await client.send(tofu.Message(tofu.OpCode.SIGNAL, b"%5d" % number + bytes(50_000)))
                sent += 1

        before = own.state()["mem"]
        sending = asyncio.create_task(send())
        await settled(client)
        assert connection_of(client).queue.paused
        held = stream_of(server)._receiver.window
        assert held.unread + held.granted <= MAX_WINDOW
        # Permits, one window, and what the sender may buffer.
        assert sent * 50_000 < 8 * 65_536 + MAX_WINDOW + 2 * 131_072 + 4 * 50_000
        connections = own.state("connz")["connections"]
        assert all(each["pending_bytes"] <= MAX_WINDOW for each in connections)
        state = own.state()
        assert state["slow_consumers"] == 0
        assert state["mem"] - before < 32 * 1024 * 1024
        for number in range(200):
            with await server.receive() as message:
                assert message.body[:5] == b"%5d" % number
        await sending
        await settled(client, server)
        left = [stream_of(end)._receiver.window for end in (client, server)]
        assert [window.unread for window in left] == [0, 0]
        assert stream_of(client)._sender.credit == left[1].granted
        assert left[1].granted >= CHUNK_COST


async def test_nothing_that_arrived_before_the_loss_is_lost(
    group: tofu.ChannelGroup, engine: tofu.Engine, start: Start
) -> None:
    """Also what waits for permits, in the transport and in the decoder."""
    own = start()
    async with connected(group, own.url()) as (client, server):
        for number in range(50):
            await client.signal(b"%d" % number)
        await settled(client, server)
        own.kill()
        await until(lambda: server.end is not None or connection_of(server).end is not None)
        for number in range(50):
            with await server.receive() as message:
                assert message.body == b"%d" % number
        assert isinstance(await lost(server), tofu.PeerDisconnected)

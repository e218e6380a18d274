"""Plausible programs, which must finish whatever the size of the pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, connection_of, frame, settled, turns, until
from tests.messaging.worlds import WORLDS, Handler, World, ask_all, echo, world_of
from tofu_aio import Message, OpCode
from tofu_aio.messaging.connection import closing as closing_module

ONE_LOOP = pytest.mark.asyncio(loop_factories=["reactor"])
"""For what takes long and depends on no loop."""


@pytest.fixture(params=WORLDS, ids=lambda world: f"{world[0]}-{world[1] or 'default'}")
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Programs with an engine each."""
    async with world_of(*request.param) as world:
        yield world


@pytest.fixture(params=[1, 2, None], ids=lambda pool: f"{pool or 'default'}")
async def one_engine(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Programs that share one engine."""
    async with world_of("tcp", request.param, alone=True) as world:
        yield world


# --- many requests -------------------------------------------------------------------------


async def test_a_client_gathers_more_requests_than_there_are_permits(world: World) -> None:
    client = await world.connect(await world.serve(echo))
    await ask_all(client, 300)


async def test_so_does_one_that_shares_the_engine_with_the_server(one_engine: World) -> None:
    client = await one_engine.connect(await one_engine.serve(echo))
    await ask_all(client, 300)


@ONE_LOOP
async def test_a_client_gathers_3000_requests() -> None:
    async with world_of("tcp", None) as world:
        client = await world.connect(await world.serve(echo))
        await ask_all(client, 3000)


async def test_long_polls_keep_their_requests_until_something_happens(world: World) -> None:
    """One of each client, and more clients than permits."""
    happened = asyncio.Event()
    waiting = 0

    async def wait(channel: tofu.Channel) -> None:
        nonlocal waiting
        async for request in channel:
            waiting += 1
            await happened.wait()
            await channel.reply(request, request.body)

    address, group = await world.serve(wait), await world.group()
    count = (world.pool or 4) + 8
    clients = [await world.connect(address, group) for _ in range(count)]
    polls = [asyncio.create_task(client.request(b"%d" % n)) for n, client in enumerate(clients)]
    await until(lambda: waiting == count, "all of the polls")
    happened.set()
    assert [(await poll).body for poll in polls] == [b"%d" % n for n in range(count)]


# --- gateways ------------------------------------------------------------------------------


def gateway_to(upstream: tofu.Channel) -> Handler:
    """Passes all requests on at once, and keeps each until its answer has come."""

    async def pass_on(channel: tofu.Channel, request: Message) -> None:
        with request:
            answer = await upstream.request(request.body)
            await channel.reply(request, answer.body)

    async def handle(channel: tofu.Channel) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for request in channel:
                tasks.create_task(pass_on(channel, request))

    return handle


async def chain(world: World, gateways: int) -> tofu.Channel:
    """A client of as many gateways in a row, the last of which has an echo behind it."""
    address = await world.serve(echo)
    for _ in range(gateways):
        group = await world.group()
        address = await world.serve(gateway_to(await world.connect(address, group)), group)
    return await world.connect(address)


@pytest.mark.parametrize("gateways", [1, 3])
async def test_requests_pass_gateways_40_at_once(world: World, gateways: int) -> None:
    client = await chain(world, gateways)
    for _ in range(3):
        await ask_all(client, 40)


@pytest.mark.parametrize("gateways", [1, 2])
async def test_so_they_do_where_all_gateways_share_an_engine(
    one_engine: World, gateways: int
) -> None:
    client = await chain(one_engine, gateways)
    await ask_all(client, 40)


@ONE_LOOP
async def test_2500_requests_at_once_pass_a_gateway() -> None:
    async with world_of("tcp", None) as world:
        await ask_all(await chain(world, 1), 2500)


async def test_many_clients_of_one_gateway(world: World) -> None:
    backend, group = await world.serve(echo), await world.group()
    handler = gateway_to(await world.connect(backend, group))
    address, clients = await world.serve(handler, group), await world.group()
    channels = [await world.connect(address, clients) for _ in range(6)]
    await asyncio.gather(*(ask_all(channel, 20) for channel in channels))


# --- what is kept --------------------------------------------------------------------------


async def test_the_loop_variables_of_more_clients_than_permits(world: World) -> None:
    """Each keeps the last message of its channel for as long as the client is silent."""
    address, group = await world.serve(echo), await world.group()
    channels = []
    for n in range((world.pool or 4) + 8):
        channels.append(await world.connect(address, group))
        assert (await channels[-1].request(b"%d" % n)).body == b"%d" % n
    for channel in channels:
        await ask_all(channel, 3)


@ONE_LOOP
async def test_1100_clients_that_ask_once_and_stay() -> None:
    asyncio.get_running_loop().set_debug(False)  # which takes nine tenths of the time
    async with world_of("tcp", None) as world:
        address, group = await world.serve(echo), await world.group()
        for n in range(1100):
            channel = await world.connect(address, group)
            assert (await channel.request(b"%d" % n)).body == b"%d" % n


class Hoarder:
    """A service that keeps the messages of all clients but those that call themselves honest."""

    def __init__(self) -> None:
        self.kept: list[Message] = []
        self.received = 0
        self.keeps = True

    def let_go(self) -> None:
        """Keep nothing any more."""
        self.keeps = False
        self.kept.clear()

    async def handle(self, channel: tofu.Channel) -> None:
        if channel.hello.body == b"honest":
            await echo(channel)
            return
        while True:
            message = await channel.receive()
            self.received += 1
            if self.keeps:
                self.kept.append(message)


async def hoarded(world: World, hoarders: int, each: int) -> tuple[Hoarder, tofu.Channel]:
    """A service that keeps all that it can of some channels, and an honest client of it."""
    service = Hoarder()
    group = await world.group(channel_share=1.0 if world.pool is None else 0.5)
    address, clients = await world.serve(service.handle, group), await world.group()
    client = await world.connect(address, clients, body=b"honest")
    channels = [await world.connect(address, clients) for _ in range(hoarders)]
    for channel in channels:
        for _ in range(each):
            channel.post(Message(OpCode.SIGNAL, b"kept"))
    await settled(*channels)
    server = world.engines[0].statistics()
    assert server.pool_free == 0, "they have it all"
    assert server.waiting + server.over_share == hoarders
    return service, client


async def test_an_honest_client_is_served_while_others_hold_the_whole_pool(world: World) -> None:
    each = 1200 if world.pool is None else 20
    service, client = await hoarded(world, 1 if world.pool is None else 5, each)
    for n in range(300 if world.pool == 1 else 30):
        assert (await client.request(b"%d" % n)).body == b"%d" % n
    await ask_all(client, 300)
    assert world.engines[0].statistics().pool_free == 0, "they have it still"
    service.kept.clear()


async def test_so_are_clients_that_come_later(world: World) -> None:
    each = 1200 if world.pool is None else 20
    service, client = await hoarded(world, 1 if world.pool is None else 5, each)
    address = await world.serve(service.handle, None)
    for _ in range(5):
        late = await world.connect(address, body=b"honest")
        await asyncio.gather(ask_all(late, 20), ask_all(client, 20))
    service.kept.clear()


async def test_one_channel_s_messages_are_kept_in_a_list_while_others_go_on(world: World) -> None:
    service = Hoarder()
    address, clients = await world.serve(service.handle), await world.group()
    greedy = await world.connect(address, clients)
    honest = [await world.connect(address, clients, body=b"honest") for _ in range(3)]
    count = 20 if world.pool is not None else 1200
    for _ in range(count):
        greedy.post(Message(OpCode.SIGNAL, b"kept"))
    await settled(greedy)
    await asyncio.gather(*(ask_all(channel, 100) for channel in honest))
    assert service.received < count
    service.let_go()
    await until(lambda: service.received == count, "the rest of it")


async def test_a_login_is_kept_and_long_uploads_come_one_after_the_other(world: World) -> None:
    """While others hold the whole pool."""

    async def store(channel: tofu.Channel) -> None:
        login = await channel.receive()
        await channel.reply(login, b"welcome")
        async for upload in channel:
            await channel.reply(upload, b"%s %d" % (login.body, len(upload.body)))

    service = Hoarder()
    group = await world.group(channel_share=1.0 if world.pool is None else 0.5)
    hoarding, storing = await world.serve(service.handle, group), await world.serve(store, group)
    clients = await world.group()
    for _ in range(5 if world.pool is not None else 1):
        greedy = await world.connect(hoarding, clients)
        for _ in range(20 if world.pool is not None else 1200):
            greedy.post(Message(OpCode.SIGNAL, b"kept"))
        await settled(greedy)
    client = await world.connect(storing, clients)
    await client.request(b"Ada")
    for length in (10, 300_000, 5_000_000, 300_000, 10):
        assert (await client.request(bytes(length))).body == b"Ada %d" % length
    service.let_go()


async def test_handlers_keep_the_first_part_and_the_one_of_their_loop(world: World) -> None:
    """Of many exchanges at once, all of which go on."""

    async def store(exchange: tofu.Exchange, first: Message) -> None:
        async with exchange:
            total = 0
            async for part in exchange:
                total += len(part.body)
            await exchange.finish(b"%s %d" % (first.headers["Name"].encode(), total))

    async def handle(channel: tofu.Channel) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for first in channel:
                tasks.create_task(store(channel.stream(first), first))

    async def upload(client: tofu.Channel, number: int) -> None:
        async with client.stream(headers={"Name": str(number)}) as exchange:
            for _ in range(4):
                await exchange.send(b"part")
            await exchange.finish()
            assert (await exchange.receive()).body == b"%d 16" % number

    client = await world.connect(await world.serve(handle))
    async with asyncio.TaskGroup() as tasks:
        for number in range(40):
            tasks.create_task(upload(client, number))


@ONE_LOOP
async def test_what_a_lost_peer_has_asked_stops_though_its_channel_is_suspended() -> None:
    """Its handlers hold all that the channel may have, so that nothing is read any more."""
    running = 0

    async def work(channel: tofu.Channel, request: Message) -> None:
        nonlocal running
        with request, channel.cancel_scope(request):
            running += 1
            try:
                await asyncio.Event().wait()
            finally:
                running -= 1

    accepted: list[tofu.Channel] = []

    async def handle(channel: tofu.Channel) -> None:
        accepted.append(channel)
        async with asyncio.TaskGroup() as tasks:
            async for request in channel:
                tasks.create_task(work(channel, request))

    async with world_of("tcp", 4) as world:
        address = await world.serve(handle)
        with await RawPeer.introduced(address) as peer:
            for number in range(2, 40):
                await peer.send(frame(OpCode.REQUEST, message_id=number))
            await until(lambda: running and connection_of(accepted[0]).suspended, "suspended")
        # The peer is gone; as it is not read, only sending to it shows that.
        while running:
            with suppress(tofu.TofuError):
                await accepted[0].signal(bytes(1000))
            await asyncio.sleep(0)
        accepted.clear()


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_who_looks_for_the_next_message_now_and_then_gets_it(
    world: World, timeout: float
) -> None:
    """And keeps the last one meanwhile, while others hold the whole pool."""
    hoarders, each = (1, 1200) if world.pool is None else (5, 20)
    service, _ = await hoarded(world, hoarders, each)
    seen: list[bytes] = []

    async def look(channel: tofu.Channel) -> None:
        kept = None
        while kept is None or kept.body != b"9":
            try:
                async with asyncio.timeout(timeout):
                    kept = await channel.receive()
            except TimeoutError:
                await asyncio.sleep(0)
            else:
                seen.append(kept.body)

    async with world.engines[0].create_group() as group:
        client = await world.connect(await world.serve(look, group))
        for number in range(10):
            client.post(Message(OpCode.SIGNAL, b"%d" % number))
        await until(lambda: len(seen) == 10, "all ten")
    service.let_go()


# --- applications that do not receive ------------------------------------------------------


@pytest.mark.parametrize("pool", [1, 2, 4, None], ids=lambda pool: f"{pool or 'default'}")
@pytest.mark.parametrize("kind", ["tcp", "uds"])
async def test_a_client_that_floods_and_never_reads_is_in_nobody_s_way(
    kind: str, pool: int | None
) -> None:
    async with world_of(kind, pool) as world:
        accepted: list[tofu.Channel] = []

        async def handle(channel: tofu.Channel) -> None:
            accepted.append(channel)
            await echo(channel)

        address = await world.serve(handle)
        with await RawPeer.introduced(address) as deaf:

            async def flood() -> None:
                request = frame(OpCode.REQUEST, bytes(4000)) * 16
                while True:
                    # In its own time, not in that of the test: no limit to it.
                    await asyncio.get_running_loop().sock_sendall(deaf.sock, request)

            flooding = world.spawn(flood())
            await until(
                lambda: accepted and connection_of(accepted[0]).queue.senders_waiting, "it is deaf"
            )
            await settled(accepted[0])
            assert not flooding.done()
            client = await world.connect(address)
            for n in range(50):
                assert (await client.request(b"%d" % n)).body == b"%d" % n
            await ask_all(client, 300)
            flooding.cancel()
            accepted[0].abort()
            accepted.clear()


@pytest.mark.parametrize("face", ["channel", "exchange"])
async def test_who_only_asks_is_told_of_the_messages_that_nobody_receives(
    face: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log as soon as it is so, and by the error of each request that times out."""
    remedy = "Receive them, with 'async for message in channel' in a task of its own"

    async def chatty(channel: tofu.Channel) -> None:
        async for request in channel:
            for _ in range(50):
                await channel.signal(b"news")
            await channel.reply(request, b"answer")

    async with world_of("tcp", 4) as world:
        client = await world.connect(await world.serve(chatty))
        if face == "exchange":
            async with client.stream() as exchange:
                await exchange.finish()
                await check_told(client, remedy, caplog)
        else:
            asking = asyncio.create_task(client.request())
            await check_told(client, remedy, caplog)
            received = [message async for message in take(client, 50)]
            assert [message.body for message in received] == [b"news"] * 50
            del received
            assert (await asking).body == b"answer"


async def take(channel: tofu.Channel, count: int) -> AsyncIterator[Message]:
    """A number of messages of a channel, each released at once."""
    for _ in range(count):
        with await channel.receive() as message:
            yield message


async def check_told(client: tofu.Channel, remedy: str, caplog: pytest.LogCaptureFixture) -> None:
    """There is a warning, now or at the next request, and the error has the same text."""
    await until(lambda: client.statistics().suspended, "the channel is full")
    with pytest.raises(TimeoutError) as raised:
        await client.request(timeout=0.01)
    unread = len(client._mailbox.items)
    text = f": the channel is not read, because {unread} messages before it were not received. "
    assert unread > 1
    assert text + remedy in str(raised.value)
    (record,) = [r for r in caplog.records if r.name == "tofu_aio"]
    assert record.levelno == logging.WARNING
    assert text + remedy in record.message


LEAVE = "or leave the exchange, as 'async with channel.stream(...) as exchange' does at its end"


@contextlib.asynccontextmanager
async def broken_out_of(pool: int) -> AsyncIterator[tuple[tofu.Channel, tofu.Exchange, Message]]:
    """An exchange of which one part was received, and whose other parts fill the channel."""

    async def download(channel: tofu.Channel) -> None:
        async for request in channel:
            async with channel.stream(request) as exchange:
                for _ in range(50):
                    await exchange.send(b"part")
                await exchange.finish()

    async with world_of("tcp", pool) as world:
        client = await world.connect(await world.serve(download))
        exchange = client.stream()
        await exchange.finish()
        first = await exchange.receive()
        await until(lambda: client.statistics().suspended, "the channel is full")
        yield client, exchange, first
        del first
        await exchange.aclose()


async def test_an_exchange_that_nobody_reads_is_named_with_its_own_cure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with broken_out_of(4) as (client, exchange, first):
        first.release()
        await until(lambda: len(exchange._unread) == 3, "the next one")
        with pytest.raises(TimeoutError) as raised:
            await client.request(timeout=0.01)
        unread = f"3 parts of exchange {exchange.message_id} before it were not received"
        for said in (str(raised.value), caplog.text):
            assert unread in said
            assert LEAVE in said
            assert "async for" not in said, "which would not help"


async def test_an_exchange_of_which_a_part_is_kept_is_named_by_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no warning at once: the application may be working on that part."""
    async with broken_out_of(4) as (client, exchange, kept):
        with pytest.raises(TimeoutError, match=r"2 parts of exchange .* were not received\. Rec"):
            await client.request(timeout=0.01)
        assert len(exchange._unread) == 2
        assert not caplog.records
        kept.release()


async def test_who_keeps_what_has_come_is_told_that_responses_lie_behind_it() -> None:
    async def chatty(channel: tofu.Channel) -> None:
        async for request in channel:
            for _ in range(50):
                await channel.signal(b"news")
            await channel.reply(request, b"answer")

    async with world_of("tcp", 4) as world:
        client = await world.connect(await world.serve(chatty))
        asking = asyncio.create_task(client.request())
        kept = [await client.receive() for _ in range(3)]
        await until(lambda: client.statistics().suspended, "the channel is full")
        with pytest.raises(TimeoutError) as raised:
            await client.request(timeout=0.01)
        says = "because the application keeps messages before it, which hold 3 permits. Release"
        assert says in str(raised.value)
        asking.cancel()
        kept.clear()
        await turns(1)


async def test_the_warning_comes_without_another_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def chatty(channel: tofu.Channel) -> None:
        async for request in channel:
            for _ in range(50):
                channel.post(Message(OpCode.SIGNAL))
            await channel.reply(request)

    async with world_of("tcp", 4) as world:
        client = await world.connect(await world.serve(chatty))
        asking = asyncio.create_task(client.request())
        await until(lambda: client.statistics().suspended, "the channel is full")
        await turns(1)  # of the loop: at the end of the one in which it began
        assert "gets no response to its requests in flight (1)" in caplog.text
        asking.cancel()
        await turns(1)


# --- by messages ---------------------------------------------------------------------------


def to(channel_number: int, message: Message) -> Message:
    """The message, for this channel."""
    message.channel_number = channel_number
    return message


async def posted_echo(group: tofu.ChannelGroup, address: str) -> tofu.Address:
    """Listen by a message; what it got for an address."""
    headers = {"~listen_on": tofu.parse_address(address).to_header()}
    group.post(Message(OpCode.WELCOME_REQUEST, headers=headers))
    answer = await group.receive()
    assert answer.status is tofu.Status.SUCCESS
    return tofu.parse_address(str(_from_header(answer.headers["~listen_on"])))


def _from_header(header: str) -> tofu.Address:
    kind, *rest = header.split("|")
    if kind == "uds":
        return tofu.parse_address(f"uds://{rest[0]}")
    return tofu.parse_address(f"tcp://{rest[0]}:{rest[1]}")


async def posted_connect(group: tofu.ChannelGroup, address: tofu.Address) -> int:
    """Connect by a message; the number of the channel."""
    headers = {"~connect_to": address.to_header()}
    number = group.post(Message(OpCode.HELLO_REQUEST, headers=headers)).channel_number
    answer = await group.receive()
    assert (answer.op_code, answer.channel_number) == (OpCode.HELLO_RESPONSE, number)
    assert answer.status is tofu.Status.SUCCESS
    return number


async def answer_by_messages(group: tofu.ChannelGroup) -> None:
    """The echo service, by messages."""
    while True:
        message = await group.receive()
        if message.op_code is OpCode.HELLO_REQUEST:
            group.post(to(message.channel_number, Message(OpCode.HELLO_RESPONSE)))
        elif message.op_code is OpCode.REQUEST:
            answer = Message(OpCode.RESPONSE, message.body, message_id=message.message_id)
            group.post(to(message.channel_number, answer))


async def pass_on_by_messages(group: tofu.ChannelGroup, upstream: int) -> None:
    """The gateway, by messages: it keeps each request until its answer has come."""
    kept: dict[int, Message] = {}
    while True:
        message = await group.receive()
        if message.op_code is OpCode.HELLO_REQUEST:
            group.post(to(message.channel_number, Message(OpCode.HELLO_RESPONSE)))
        elif message.op_code is OpCode.REQUEST:
            header = group.post(to(upstream, Message(OpCode.REQUEST, message.body)))
            kept[header.message_id] = message
        elif message.op_code is OpCode.RESPONSE:
            request = kept.pop(message.message_id)
            answer = Message(OpCode.RESPONSE, message.body, message_id=request.message_id)
            group.post(to(request.channel_number, answer))
            del request


async def gather_by_messages(group: tofu.ChannelGroup, channel: int, count: int) -> None:
    """Ask so often at once, and keep the bodies of what comes."""
    asked = {}
    for n in range(count):
        request = to(channel, Message(OpCode.REQUEST, b"%d" % n))
        asked[group.post(request).message_id] = b"%d" % n
    bodies = {}
    while len(bodies) < count:
        message = await group.receive()
        if message.op_code is OpCode.RESPONSE:
            bodies[message.message_id] = message.body
    assert bodies == asked


@pytest.fixture(
    params=[("tcp", None), ("tcp", 1), ("uds", 2), ("tcp", 4)],
    ids=lambda world: f"{world[0]}-{world[1] or 'default'}",
)
async def plain_world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """As ``world``, without TLS, which no message asks for."""
    async with world_of(*request.param) as world:
        yield world
        monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.01)  # no Bye is answered any more


async def test_gathering_by_messages(plain_world: World) -> None:
    service, client = await plain_world.group(), await plain_world.group()
    address = await posted_echo(service, plain_world.address())
    plain_world.spawn(answer_by_messages(service))
    number = await posted_connect(client, address)
    await gather_by_messages(client, number, 300)


async def test_a_gateway_by_messages(plain_world: World) -> None:
    backend, group, client = [await plain_world.group() for _ in range(3)]
    behind = await posted_echo(backend, plain_world.address())
    plain_world.spawn(answer_by_messages(backend))
    upstream = await posted_connect(group, behind)
    address = await posted_echo(group, plain_world.address())
    plain_world.spawn(pass_on_by_messages(group, upstream))
    number = await posted_connect(client, address)
    for _ in range(3):
        await gather_by_messages(client, number, 40)


async def test_a_service_by_messages_serves_streams(plain_world: World) -> None:
    service = await plain_world.group()
    address = await posted_echo(service, plain_world.address())
    plain_world.spawn(answer_by_messages(service))
    await ask_all(await plain_world.connect(address), 300)


async def test_a_channel_made_by_messages_that_is_kept_is_not_in_the_way_of_streams(
    plain_world: World,
) -> None:
    """Of one engine: what comes to the group's mailbox is kept in a list."""
    group, clients = await plain_world.group(), await plain_world.group()
    by_streams = await plain_world.serve(echo, group)
    address = await posted_echo(group, plain_world.address())
    kept: list[Message] = []

    async def keep() -> None:
        while True:
            message = await group.receive()
            if message.op_code is OpCode.HELLO_REQUEST:
                group.post(to(message.channel_number, Message(OpCode.HELLO_RESPONSE)))
            kept.append(message)

    plain_world.spawn(keep())
    greedy = await plain_world.connect(address, clients)
    for _ in range(1200):
        greedy.post(Message(OpCode.SIGNAL))
    await settled(greedy)
    client = await plain_world.connect(by_streams, clients)
    await ask_all(client, 100)
    kept.clear()

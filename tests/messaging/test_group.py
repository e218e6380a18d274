"""Groups: connecting, and closing with everything in flight."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from anyio import BusyResourceError, ClosedResourceError

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, RawServer, frame, held_up, hello, settled, turns, until
from tofu_aio import OpCode, State, Status
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.transport import tcp, transports


def welcome(address: str) -> tofu.Message:
    where = tofu.parse_address(address).to_header()
    return tofu.Message(OpCode.WELCOME_REQUEST, headers={"~listen_on": where})


def greeting(address: tofu.Address) -> tofu.Message:
    return tofu.Message(OpCode.HELLO_REQUEST, headers={"~connect_to": address.to_header()})


async def nothing_left(engine: tofu.Engine) -> None:
    """After closing there is nothing to wait for."""
    statistics = engine.statistics()
    assert (statistics.channels, statistics.waiting) == (0, 0)
    assert statistics.pool_free == statistics.pool_size


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Attempts neither fail nor succeed; the event is set at the first."""
    tried = asyncio.Event()

    async def connect(*_: object) -> None:
        tried.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(transports, "connect", connect)
    return tried


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Names resolve when the test sets the event."""
    resolved = asyncio.Event()
    resolve = tcp._resolve

    async def wait(address: tofu.TcpAddress) -> object:
        await resolved.wait()
        return await resolve(address)

    monkeypatch.setattr(tcp, "_resolve", wait)
    return resolved


# --- servers that are no tofu peers ------------------------------------------------------------


@pytest.mark.parametrize("number", [0x4141, 0x0A41], ids=["answers", "takes it for a blank line"])
async def test_a_real_http_server(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The frame begins with the channel's number: what the server makes of it depends on that."""
    monkeypatch.setattr("random.randint", lambda *_: number)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.raises(tofu.ConnectFailed, match="is it a tofu peer") as caught:
            await group.connect(f"tcp://127.0.0.1:{server.server_port}")
        assert caught.value.status is Status.CONNECT_FAILED
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()


async def test_a_server_that_says_nothing(
    group: tofu.ChannelGroup, raw_server: RawServer, engine: tofu.Engine
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address, timeout=0.3))
    with await raw_server.accept() as peer:
        with pytest.raises(
            tofu.ConnectFailed,
            match=r"did not accept the channel within 0\.3 s: is it a tofu peer, and does it",
        ):
            await connecting
        assert b"~connect_to:" in await peer.end()
    await until(lambda: engine.statistics().channels == 0)


@pytest.mark.parametrize("how", ["close", "reset", "half close"])
async def test_a_server_that_closes_at_once(
    group: tofu.ChannelGroup, raw_server: RawServer, how: str
) -> None:
    for patience in range(4):
        connecting = asyncio.create_task(group.connect(raw_server.address))
        with await raw_server.accept() as peer:
            await turns(patience)
            if how == "close":
                peer.close()
            elif how == "reset":
                await peer.reset()
            else:
                peer.half_close()
            with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
                await connecting


NOT_AN_ANSWER = {
    "text": b"220 mail.example.org ESMTP ready\r\n" * 2,
    "zeros": bytes(64),
    "op code 13": frame(13),
    "a request": frame(OpCode.REQUEST),
    "a Hello": hello(),
    "a Bye": frame(OpCode.BYE_REQUEST),
    "Welcome's answer": frame(OpCode.WELCOME_RESPONSE),
    "the wrong id": frame(OpCode.HELLO_RESPONSE, message_id=2**63),
    "no id": frame(OpCode.HELLO_RESPONSE, message_id=0),
}


@pytest.mark.parametrize("data", NOT_AN_ANSWER.values(), ids=NOT_AN_ANSWER)
async def test_a_server_that_answers_nonsense(
    group: tofu.ChannelGroup, raw_server: RawServer, data: bytes
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        await peer.message()
        await peer.send(data)
        with pytest.raises(tofu.ConnectFailed, match="is it a tofu peer") as caught:
            await connecting
        assert isinstance(caught.value.__cause__, tofu.ProtocolViolation)
        await peer.end()


async def test_a_server_that_sends_half_an_answer(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        asked = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, bytes(9), message_id=asked.message_id)[:20])
        peer.close()
        with pytest.raises(tofu.ConnectFailed):
            await connecting


async def test_a_server_that_refuses_with_a_status(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        asked = await peer.message()
        await peer.send(
            frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id, status=Status.NOT_ALLOWED)
        )
        with pytest.raises(tofu.ConnectFailed, match="refused the channel: not_allowed"):
            await connecting
        await peer.end()


async def test_an_answer_may_be_followed_at_once(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        asked = await peer.message()
        await peer.send(
            frame(OpCode.HELLO_RESPONSE, b"welcome", message_id=asked.message_id)
            + frame(body=b"first")
        )
        channel = await connecting
        assert channel.hello.body == b"welcome"
        assert (await channel.receive()).body == b"first"
        channel.abort()


async def test_a_hello_too_large_is_refused_before_connecting(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    with pytest.raises(tofu.InvalidHeadersLen):
        await group.connect("tcp://127.0.0.1:1", headers={"a": "b" * 65535})
    with pytest.raises(tofu.InvalidBodyLen):
        await group.connect("tcp://127.0.0.1:1", body=bytes(65536))
    await nothing_left(engine)


# --- peers that are killed -----------------------------------------------------------------------


PEER = """
import socket, struct, sys
HEADER = struct.Struct(">HBBQHH")
def frame(op, body=b"", headers=b"", message_id=1, body_len=None):
    size = len(body) if body_len is None else body_len
    return HEADER.pack(9, op, 0, message_id, len(headers), size) + headers + body
def read(sock):
    head = b""
    while len(head) < 16: head += sock.recv(16 - len(head))
    *_, headers, body = fields = HEADER.unpack(head)
    rest = headers + body
    while rest: rest -= len(sock.recv(rest))
    return fields
half = frame(0, b"whole") + frame(0, b"x" * 30000, body_len=60000)
role, port = sys.argv[1], int(sys.argv[2])
if role == "client":
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(frame(3, headers=b"~connect_to:tcp|127.0.0.1|%d\\r\\n" % port))
    read(sock)
else:
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    sock, _ = server.accept()
    sock.sendall(frame(4, message_id=read(sock)[3]))
sock.sendall(half)
sys.stdin.read()
"""


@contextlib.contextmanager
def peer_process(script: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


async def after_the_kill(channel: tofu.Channel, process: subprocess.Popen[bytes]) -> None:
    """What was whole arrives; then the channel ends, and the half message leaves nothing."""
    await until(lambda: channel._connection.decoder.held == 30016)
    pending = asyncio.create_task(channel.request(b"never answered"))
    await turns(3)
    process.kill()
    with await channel.receive() as message:
        assert message.body == b"whole"
    with pytest.raises(tofu.PeerDisconnected):
        await channel.receive()
    with pytest.raises(tofu.PeerDisconnected):
        await pending
    with pytest.raises(tofu.PeerDisconnected):
        await channel.signal()
    await channel.aclose()


async def test_a_client_killed_in_the_middle_of_a_body(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    assert isinstance(listener.address, tofu.TcpAddress)
    with peer_process(PEER, "client", listener.address.port) as process:
        await after_the_kill(await listener.accept(), process)
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    await asyncio.gather(client.aclose(), server.aclose())


async def test_a_server_killed_in_the_middle_of_a_body(group: tofu.ChannelGroup) -> None:
    with peer_process(PEER, "server", 0) as process:
        assert process.stdout is not None
        port = int(await asyncio.to_thread(process.stdout.readline))
        await after_the_kill(await group.connect(f"tcp://127.0.0.1:{port}"), process)
        await asyncio.to_thread(process.wait)
        with pytest.raises(tofu.ConnectFailed):
            await group.connect(f"tcp://127.0.0.1:{port}")


FLOOD = """
import asyncio, sys
import tofu_aio as tofu
async def main(port):
    async with tofu.connect(f"tcp://127.0.0.1:{port}") as channel:
        number = 0
        while True:
            await channel.signal(b"%d " % number + bytes(60000))
            number += 1
tofu.run(main(sys.argv[1]))
"""


async def test_a_tofu_process_killed_while_it_sends(
    group: tofu.ChannelGroup, listener: tofu.Listener, engine: tofu.Engine
) -> None:
    """What its kernel had taken arrives whole, in order, past a pool that was empty all along."""
    assert isinstance(listener.address, tofu.TcpAddress)
    with peer_process(FLOOD, listener.address.port) as process:
        channel = await listener.accept()
        await until(lambda: held_up(engine) == 1)
        await settled(channel)
        process.kill()
    number = 0
    with contextlib.suppress(tofu.PeerDisconnected):
        while True:
            with await channel.receive() as message:
                assert message.body == b"%d " % number + bytes(60000)
                number += 1
    assert number > 8
    await channel.aclose()


# --- closing -----------------------------------------------------------------------------------


async def test_closing_says_bye_on_every_channel(
    engine: tofu.Engine, group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    async with engine.create_group() as mine:
        clients = [await connected(mine, listener) for _ in range(3)]
    await nothing_but(engine, 1)
    for client, server in clients:
        assert isinstance(client.end, tofu.ChannelEnded)
        assert isinstance(server.end, tofu.ChannelEnded)


async def connected(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> tuple[tofu.Channel, tofu.Channel]:
    return await asyncio.gather(group.connect(listener.address), listener.accept())


async def nothing_but(engine: tofu.Engine, channels: int) -> None:
    await until(lambda: engine.statistics().channels == channels)


async def test_closing_may_be_repeated_from_any_task(engine: tofu.Engine, address: str) -> None:
    group = engine.create_group()
    await group.listen("tcp://127.0.0.1:0")
    group.post(welcome(address))
    assert (await group.receive()).status is Status.SUCCESS
    await asyncio.gather(*(group.aclose() for _ in range(3)), engine.aclose())
    await group.aclose()
    await nothing_left(engine)


async def test_a_closed_group_refuses_everything(engine: tofu.Engine) -> None:
    group = engine.create_group()
    await group.aclose()
    for attempt in (
        lambda: group.connect("tcp://127.0.0.1:1"),
        lambda: group.listen("tcp://127.0.0.1:0"),
        group.receive,
    ):
        with pytest.raises(ClosedResourceError, match="the group was closed"):
            await attempt()
    with pytest.raises(tofu.ChannelClosed):
        group.post(tofu.Message(OpCode.SIGNAL))
    await nothing_left(engine)


async def test_receivers_learn_that_the_group_closed(engine: tofu.Engine) -> None:
    group = engine.create_group()
    receiving = asyncio.create_task(group.receive())
    await turns(1)
    with pytest.raises(BusyResourceError):
        await group.receive()
    await group.aclose()
    with pytest.raises(tofu.ChannelClosed):
        await receiving
    with pytest.raises(tofu.ChannelClosed):
        await group.receive()


async def test_messages_left_in_the_mailbox_give_their_permits_back(
    engine: tofu.Engine, group: tofu.ChannelGroup
) -> None:
    server = engine.create_group()
    server.post(welcome("tcp://127.0.0.1:0"))
    answer = await server.receive()
    connecting = asyncio.create_task(
        group.connect(tofu.parse_address(answer.headers["~listen_on"]))
    )
    asked = await server.receive()
    accept = tofu.Message(OpCode.HELLO_RESPONSE, message_id=asked.message_id)
    accept.channel_number = asked.channel_number
    server.post(accept)
    client = await connecting
    for _ in range(12):
        await client.signal()
    await until(lambda: held_up(engine) == 1)
    await asyncio.gather(server.aclose(), client.aclose())
    await nothing_left(engine)
    with pytest.raises(tofu.ChannelClosed):
        await server.receive()


async def test_closing_does_not_wait_for_a_connect_to_nowhere(
    engine: tofu.Engine, nowhere: asyncio.Event
) -> None:
    group = engine.create_group()
    connecting = asyncio.create_task(group.connect("tcp://127.0.0.1:1", timeout=1000))
    await nowhere.wait()
    await group.aclose()
    await nothing_left(engine)
    with pytest.raises(tofu.ChannelClosed, match="the group was closed"):
        await connecting


async def test_closing_ends_a_connect_whose_peer_says_nothing(
    engine: tofu.Engine, raw_server: RawServer
) -> None:
    group = engine.create_group()
    connecting = asyncio.create_task(group.connect(raw_server.address, timeout=1000))
    with await raw_server.accept() as peer:
        await peer.message()
        await group.aclose()
        with pytest.raises(tofu.ChannelClosed, match="the group was closed"):
            await connecting
        assert await peer.end() == b""
    await nothing_left(engine)


async def test_closing_ends_a_posted_connect_to_nowhere(
    engine: tofu.Engine, nowhere: asyncio.Event
) -> None:
    group = engine.create_group()
    group.post(greeting(tofu.TcpAddress("127.0.0.1", 1)))
    await nowhere.wait()
    await group.aclose()
    await nothing_left(engine)


async def test_closing_before_a_posted_opening_has_begun(engine: tofu.Engine, address: str) -> None:
    group = engine.create_group()
    group.post(welcome(address))
    group.post(greeting(tofu.TcpAddress("127.0.0.1", 1)))
    await group.aclose()
    await nothing_left(engine)


async def test_a_listener_that_comes_too_late_is_not_left_open(
    engine: tofu.Engine, slow_names: asyncio.Event
) -> None:
    group = engine.create_group()
    listening = asyncio.create_task(group.listen("tcp://127.0.0.1:0"))
    await turns(3)
    await group.aclose()
    slow_names.set()
    with pytest.raises(tofu.ChannelClosed, match="the group was closed"):
        await listening
    await nothing_left(engine)


@pytest.mark.parametrize("altitude", ["streams", "messages"])
@pytest.mark.parametrize("after", range(14))
async def test_a_group_may_close_at_any_moment_of_a_connect(
    engine: tofu.Engine, listener: tofu.Listener, altitude: str, after: int
) -> None:
    serving = asyncio.create_task(listener.serve(lambda channel: channel.receive()))
    group = engine.create_group()
    connecting: asyncio.Task[tofu.Channel] | None = None
    if altitude == "streams":
        connecting = asyncio.create_task(group.connect(listener.address))
    else:
        group.post(greeting(listener.address))
    await turns(after)
    await group.aclose()
    if connecting is not None:
        await asyncio.gather(connecting, return_exceptions=True)
        assert connecting.exception() is None or isinstance(
            connecting.exception(), tofu.ChannelClosed
        )
    await nothing_but(engine, 1)
    await listener.aclose()
    await serving


@pytest.mark.parametrize("after", range(14))
async def test_connect_may_be_cancelled_at_any_moment(
    group: tofu.ChannelGroup, engine: tofu.Engine, listener: tofu.Listener, after: int
) -> None:
    serving = asyncio.create_task(listener.serve(lambda channel: channel.receive()))
    connecting = asyncio.create_task(group.connect(listener.address))
    await turns(after)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    if not connecting.cancelled():
        await connecting.result().aclose()
    await nothing_but(engine, 1)
    await listener.aclose()
    await serving


@pytest.mark.parametrize("after", range(6))
async def test_listen_may_be_cancelled_at_any_moment(
    group: tofu.ChannelGroup, engine: tofu.Engine, address: str, after: int
) -> None:
    listening = asyncio.create_task(group.listen(address))
    await turns(after)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    if not listening.cancelled():
        await listening.result().aclose()
    await nothing_but(engine, 0)


async def test_closing_is_bounded_when_peers_do_not_answer(
    engine: tofu.Engine, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.05)
    group = engine.create_group()
    peers = []
    for _ in range(3):
        connecting = asyncio.create_task(group.connect(raw_server.address))
        peers.append(await raw_server.accept())
        asked = await peers[-1].message()
        await peers[-1].send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
        await connecting
    await group.aclose()
    await nothing_left(engine)
    for peer in peers:
        peer.close()


async def test_a_cancelled_close_aborts_what_is_left(
    engine: tofu.Engine, raw_server: RawServer
) -> None:
    group = engine.create_group()
    connecting = asyncio.create_task(group.connect(raw_server.address))
    with await raw_server.accept() as peer:
        asked = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
        channel = await connecting
        closing = asyncio.create_task(group.aclose())
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert channel.state is State.CLOSED
        await peer.end()
    await nothing_but(engine, 0)


async def test_groups_do_not_see_each_others_channels(
    engine: tofu.Engine, group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    async with engine.create_group() as other:
        client, server = await connected(group, listener)
        message = tofu.Message(OpCode.SIGNAL)
        message.channel_number = client.number
        with pytest.raises(tofu.InvalidChannelGroup, match="belongs to another group"):
            other.post(message)
        await asyncio.gather(client.aclose(), server.aclose())
        with pytest.raises(tofu.InvalidChannelNumber, match=r"no channel \d+ \(any more\)"):
            other.post(message)


async def test_a_body_that_raises_still_closes_the_group(engine: tofu.Engine) -> None:
    async def fail() -> None:
        async with engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0")
            with await RawPeer.connect(listener.address) as peer:
                await peer.send(hello())
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await nothing_left(engine)


async def test_a_stream_channel_can_be_posted_to_by_its_number(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    client, server = await connected(group, listener)
    message = tofu.Message(OpCode.SIGNAL, b"by number")
    message.channel_number = client.number
    assert group.post(message).channel_number == client.number
    assert (await server.receive()).body == b"by number"
    message.channel_number = listener.channel_number
    with pytest.raises(tofu.NotAllowed, match="is a listener"):
        group.post(message)
    await settled(client)
    await asyncio.gather(client.aclose(), server.aclose())

"""TLS: the same channels, encrypted; and refusals that say why, on both sides."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.certificates import authority, client_context, server_context
from tests.messaging.conftest import closing_both
from tests.messaging.connection.test_heartbeat import BEAT, look, takes_part
from tests.messaging.peers import (
    Pair,
    RawPeer,
    RawServer,
    admission_of,
    connection_of,
    frame,
    held_up,
    hello,
    settled,
    transport_of,
    turns,
    until,
)
from tests.messaging.raw_tls import RawTls
from tests.systems import keeps_what_came_before_a_reset
from tofu_aio import OpCode, State
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.transport.limits import WRITE_HIGH_WATER
from tofu_aio.transport.tls import SEALED, Tls

HERE = "tcp://127.0.0.1:0"


@pytest.fixture
async def tls_listener(group: tofu.ChannelGroup) -> AsyncIterator[tofu.Listener]:
    """A listener with TLS."""
    async with await group.listen(HERE, ssl=server_context()) as listener:
        yield listener


@pytest.fixture(params=["1.3", "1.2"])
async def tls_pair(
    group: tofu.ChannelGroup, tls_listener: tofu.Listener, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    """Both ends of a channel, over each version of TLS."""
    context = client_context(tls12=request.param == "1.2")
    client, server = await asyncio.gather(
        group.connect(tls_listener.address, ssl=context), tls_listener.accept()
    )
    layer = transport_of(client)
    assert isinstance(layer, Tls)
    assert layer._ssl.version() == f"TLSv{request.param}"
    async with closing_both(client, server) as pair:
        yield pair


@pytest.fixture
async def raw_tls(tls_listener: tofu.Listener) -> AsyncIterator[tuple[RawTls, tofu.Channel]]:
    """A raw peer that has sent its Hello, and its channel."""
    with await RawPeer.connect(tls_listener.address) as raw:
        peer = RawTls(raw, client_context())
        await peer.shake()
        await raw.send(peer.sealed(hello()))
        channel = await tls_listener.accept()
        assert await peer.read()  # the answer
        async with channel:
            yield peer, channel


@pytest.fixture
def refusals(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of tofu_aio, including refused connections."""
    caplog.set_level(logging.INFO, "tofu_aio")
    return caplog


def logged_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("tofu_aio")]


async def no_channel_but(listener: tofu.Listener, engine: tofu.Engine) -> None:
    """The refused connection left nothing, and a good client still works."""
    await until(lambda: engine.statistics().channels == 1)
    admission = admission_of(listener)
    assert not admission._undecided
    assert not admission._handshaking


# --- what it is like -------------------------------------------------------------------------


async def test_a_conversation(tls_pair: Pair) -> None:
    client, server = tls_pair
    asking = asyncio.create_task(client.request(b"ping", {"Job": "7"}))
    with await server.receive() as request:
        assert (request.body, request.headers["Job"]) == (b"ping", "7")
        await server.reply(request, b"pong")
    with await asking as response:
        assert response.body == b"pong"


async def test_it_is_encrypted(group: tofu.ChannelGroup, raw_server: RawServer) -> None:
    connecting = asyncio.create_task(
        group.connect(raw_server.address, body=b"a secret", ssl=client_context())
    )
    with await raw_server.accept() as peer:
        data = await peer._receive()
        assert data[:2] == b"\x16\x03", "a TLS handshake"
        assert b"~connect_to" not in data
        assert b"a secret" not in data
    with pytest.raises(tofu.ConnectFailed, match="in the handshake: check that it uses TLS"):
        await connecting


@pytest.mark.parametrize("size", [1, 16384, 65535])
async def test_much_both_ways_at_once(tls_pair: Pair, size: int) -> None:
    """It is larger than the pool, the buffers and a record."""
    bodies = [bytes([number]) * size for number in range(60)]

    async def pour(channel: tofu.Channel) -> None:
        for body in bodies:
            await channel.signal(body)

    async def drain(channel: tofu.Channel) -> None:
        for body in bodies:
            with await channel.receive() as message:
                assert message.body == body

    await asyncio.gather(*(work(channel) for channel in tls_pair for work in (pour, drain)))


async def test_a_pool_that_is_empty_suspends_the_peer(tls_pair: Pair, engine: tofu.Engine) -> None:
    client, server = tls_pair
    sending = asyncio.create_task(_pour(client, 200))
    await settled(client, server)
    assert (held_up(engine), engine.statistics().pool_free) == (1, 4), "it has its share"
    assert not transport_of(server).is_reading()
    assert connection_of(server).decoder.held < 600_000
    assert not sending.done(), "the peer feels it"
    for number in range(200):
        with await server.receive() as message:
            assert message.body[:8] == b"%08d" % number
    await sending


async def _pour(channel: tofu.Channel, count: int) -> None:
    for number in range(count):
        await channel.signal(b"%08d" % number + bytes(60_000))


async def test_a_half_close_lets_the_other_side_finish(tls_pair: Pair) -> None:
    client, server = tls_pair
    await client.signal(b"all")
    await client.send_eof()
    assert [message.body async for message in server] == [b"all"]
    for number in range(5):
        await server.signal(b"%d" % number)
    await server.send_eof()
    assert [message.body async for message in client] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_bye_brings_everything_before_it(tls_pair: Pair) -> None:
    client, server = tls_pair
    for _ in range(6):
        client.post(tofu.Message(OpCode.SIGNAL, bytes(65535)))
    closing = asyncio.create_task(client.aclose())
    assert [len(message.body) async for message in server] == [65535] * 6
    await closing
    assert isinstance(client.end, tofu.ChannelEnded)


async def test_an_abort_is_told_at_once(tls_pair: Pair) -> None:
    client, server = tls_pair
    client.abort()
    with pytest.raises(tofu.PeerDisconnected):
        await server.receive()


async def test_writing_is_bounded(tls_pair: Pair) -> None:
    client, server = tls_pair
    sending = asyncio.create_task(_pour(client, 200))
    await settled(client, server)
    # Twice the mark, the message that passes it, and what TLS adds to each of its records.
    assert client.statistics().queued_bytes < 2 * WRITE_HIGH_WATER + 61_000
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    client.abort()


# --- whom it talks to ------------------------------------------------------------------------


async def test_both_sides_know_each_other(group: tofu.ChannelGroup) -> None:
    async with await group.listen(HERE, ssl=server_context(mutual=True)) as listener:
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(
                group.connect(listener.address, ssl=client_context("ada@example.org"))
            )
            server = await listener.receive_hello()
            certificate = server.peer.certificate
            assert certificate is not None
            assert certificate["subjectAltName"] == (("email", "ada@example.org"),)
            assert server.peer.certificate_der is not None
            assert ssl.DER_cert_to_PEM_cert(server.peer.certificate_der).startswith("-----BEGIN")
            server.accept()
        client = connecting.result()
        assert client.peer.certificate is not None
        assert ("DNS", "localhost") in client.peer.certificate["subjectAltName"]
        assert client.peer.address == listener.address
        await asyncio.gather(client.aclose(), server.aclose())


async def test_a_peer_without_a_certificate_has_none(
    group: tofu.ChannelGroup, tls_listener: tofu.Listener
) -> None:
    """A certificate that was not verified is here only in DER, to be compared."""
    client, server = await asyncio.gather(
        group.connect(tls_listener.address, ssl=client_context(trusting=True)),
        tls_listener.accept(),
    )
    assert (server.peer.certificate, server.peer.certificate_der) == (None, None)
    assert client.peer.certificate is None
    assert client.peer.certificate_der
    await asyncio.gather(client.aclose(), server.aclose())


async def test_another_name_can_be_expected(group: tofu.ChannelGroup) -> None:
    async with await group.listen(HERE, ssl=server_context("spool.example")) as listener:
        client, server = await asyncio.gather(
            group.connect(listener.address, ssl=client_context(), server_hostname="spool.example"),
            listener.accept(),
        )
        await asyncio.gather(client.aclose(), server.aclose())


async def test_the_shortcuts_speak_it_too() -> None:
    async def greet(channel: tofu.Channel) -> None:
        assert channel.peer.certificate is not None
        await channel.signal(b"hi")

    async def serve(*, task_status: anyio.abc.TaskStatus[tofu.Address]) -> None:
        await tofu.serve(greet, HERE, ssl=server_context(mutual=True), task_status=task_status)

    async with anyio.create_task_group() as tasks:
        where = await tasks.start(serve)
        async with tofu.connect(
            where, ssl=client_context("ada@example.org"), server_hostname="localhost"
        ) as channel:
            assert [message.body async for message in channel] == [b"hi"]
        tasks.cancel_scope.cancel()


# --- refusals --------------------------------------------------------------------------------


REFUSALS = {
    "an unknown authority": (
        lambda: server_context(stranger=True),
        client_context,
        "certificate is not valid: unable to get local issuer",
        "the peer does not trust the authority that signed",
    ),
    "another name": (
        lambda: server_context("elsewhere.example"),
        client_context,
        "certificate is not valid: IP address mismatch",
        "the peer refused this side's certificate",
    ),
    "an expired certificate": (
        lambda: server_context(expired=True),
        client_context,
        "certificate is not valid: certificate has expired",
        "the peer reports that this side's certificate has expired",
    ),
    "a client without a certificate": (
        lambda: server_context(mutual=True),
        client_context,
        "the listener requires a certificate: load one",
        "the client sent no certificate",
    ),
    "a client without a certificate, TLS 1.2": (
        lambda: server_context(mutual=True),
        lambda: client_context(tls12=True),
        "the peer refused the handshake: no cipher in common, or one side has no certificate",
        "the client sent no certificate",
    ),
    "a client whose certificate nobody knows": (
        lambda: server_context(mutual=True),
        lambda: client_context("eve@example.org", stranger=True),
        "the peer does not trust the authority that signed this side's certificate",
        "certificate is not valid: unable to get local issuer",
    ),
    "a listener without a certificate": (
        lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        client_context,
        "the peer refused the handshake: no cipher in common",
        "load a certificate into the listener's context",
    ),
}


@pytest.mark.parametrize(("server", "client", "told", "logged"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_is_named_on_both_sides(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    refusals: pytest.LogCaptureFixture,
    server: Any,
    client: Any,
    told: str,
    logged: str,
) -> None:
    async with await group.listen(HERE, ssl=server()) as listener:
        with pytest.raises(tofu.ConnectFailed, match="TLS failed: ") as caught:
            await group.connect(listener.address, ssl=client())
        assert told in str(caught.value)
        assert isinstance(caught.value.__cause__, tofu.CommunicationFailed)
        await until(lambda: logged_by_us(refusals))
        assert [logged in text for text in logged_by_us(refusals)] == [True], logged_by_us(refusals)
        await no_channel_but(listener, engine)


async def test_a_plain_client_is_refused(
    group: tofu.ChannelGroup,
    tls_listener: tofu.Listener,
    engine: tofu.Engine,
    refusals: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        tofu.ConnectFailed, match=r"does it expect TLS \(then connect with ssl=\)\?"
    ):
        await group.connect(tls_listener.address)
    await until(lambda: logged_by_us(refusals))
    assert "TLS failed: the peer does not use TLS" in logged_by_us(refusals)[0]
    await no_channel_but(tls_listener, engine)


async def test_a_plain_listener_is_refused(
    group: tofu.ChannelGroup,
    listener: tofu.Listener,
    engine: tofu.Engine,
    refusals: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(tofu.ConnectFailed, match="in the handshake: check that it uses TLS"):
        await group.connect(listener.address, ssl=client_context())
    await until(lambda: logged_by_us(refusals))
    assert "a connection was refused: at byte 0: " in logged_by_us(refusals)[0]
    await no_channel_but(listener, engine)


async def test_an_answer_that_is_not_tls_is_refused(
    group: tofu.ChannelGroup, raw_server: RawServer, engine: tofu.Engine
) -> None:
    connecting = asyncio.create_task(group.connect(raw_server.address, ssl=client_context()))
    with await raw_server.accept() as peer:
        await peer.send(b"220 mail.example ESMTP\r\n")
        with pytest.raises(tofu.ConnectFailed, match="the peer does not use TLS"):
            await connecting


async def test_a_peer_that_goes_on_sending_still_receives_the_refusal(
    group: tofu.ChannelGroup,
) -> None:
    """In TLS 1.3 a client has sent its Hello, and more, before its certificate is requested."""
    async with await group.listen(HERE, ssl=server_context(mutual=True)) as listener:
        with await RawPeer.connect(listener.address) as raw:
            peer = RawTls(raw, client_context())
            await peer.shake()
            for _ in range(5):
                await raw.send(peer.sealed(hello()))
                await turns(5)
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                await peer.read()
            assert not await raw.resets()


async def test_what_waits_for_the_handshake_is_counted(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    connecting = asyncio.create_task(
        group.connect(raw_server.address, body=bytes(50_000), ssl=client_context())
    )
    with await raw_server.accept():  # and sends nothing
        (channel,) = group._members.values()
        assert isinstance(channel, tofu.Channel)
        await until(lambda: channel.statistics().sent)
        await turns(5)
        assert channel.statistics().queued_bytes > 50_000
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


@pytest.mark.parametrize("sent", [0, 1, 20, "everything"])
async def test_a_peer_that_stalls_in_the_handshake_is_closed_in_time(
    group: tofu.ChannelGroup, engine: tofu.Engine, sent: int | str
) -> None:
    """The timeout for the Hello covers the handshake, too."""
    async with await group.listen(HERE, ssl=server_context(), hello_timeout=0.05) as listener:
        with await RawPeer.connect(listener.address) as raw:
            peer = RawTls(raw, client_context())
            if sent == "everything":
                await peer.shake()
            else:
                with pytest.raises(ssl.SSLWantReadError):
                    peer._ssl.do_handshake()
                await raw.send(peer._outgoing.read()[: int(sent)])
            await raw.end()
        await no_channel_but(listener, engine)


async def test_a_refused_peer_that_does_not_close_is_closed_in_time(
    group: tofu.ChannelGroup, engine: tofu.Engine
) -> None:
    async with await group.listen(HERE, ssl=server_context(), hello_timeout=0.05) as listener:
        with await RawPeer.connect(listener.address) as raw:
            await raw.send(hello())
            await raw.end()
            await no_channel_but(listener, engine)


async def test_a_server_that_stalls_takes_the_timeout(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    with pytest.raises(tofu.ConnectFailed, match=r"did not accept the channel within 0.05 s"):
        await group.connect(raw_server.address, ssl=client_context(), timeout=0.05)


@pytest.mark.parametrize("after", range(9))
async def test_a_listener_may_close_at_any_moment_of_a_handshake(
    group: tofu.ChannelGroup, engine: tofu.Engine, after: int
) -> None:
    listener = await group.listen(HERE, ssl=server_context(), hello_timeout=1000)
    connecting = asyncio.create_task(group.connect(listener.address, ssl=client_context()))
    await turns(after)
    await listener.aclose()
    with pytest.raises(tofu.ConnectFailed):
        await connecting
    await until(lambda: engine.statistics().channels == 0)


@pytest.mark.parametrize("after", range(12))
async def test_connecting_may_be_cancelled_at_any_moment_of_a_handshake(
    group: tofu.ChannelGroup, engine: tofu.Engine, tls_listener: tofu.Listener, after: int
) -> None:
    """The other side is notified at once, not after a timeout."""
    admission_of(tls_listener)._hello_timeout = 1000
    connecting = asyncio.create_task(group.connect(tls_listener.address, ssl=client_context()))
    await turns(after)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await no_channel_but(tls_listener, engine)


async def test_what_cannot_be_is_said_at_once(
    group: tofu.ChannelGroup, engine: tofu.Engine, socket_path: str
) -> None:
    server, client = server_context(), client_context()
    for attempt, right, wrong in (
        (group.connect, client, server),
        (group.listen, server, client),
    ):
        with pytest.raises(tofu.WrongAddress, match="TLS is for TCP"):
            await attempt(f"uds://{socket_path}", ssl=right)
        with pytest.raises(ValueError, match=r"not for (connecting|listening): use"):
            await attempt("tcp://127.0.0.1:7000", ssl=wrong)
        with pytest.raises(TypeError, match=r"create_default_context\(ssl.Purpose"):
            await attempt("tcp://127.0.0.1:7000", ssl=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="server_hostname is for TLS"):
        await group.connect("tcp://127.0.0.1:7000", server_hostname="localhost")
    assert engine.statistics().channels == 0


@pytest.mark.parametrize("protocol", [ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLSv1_2])
async def test_a_context_that_verifies_nothing_by_default_is_refused(
    group: tofu.ChannelGroup, tls_listener: tofu.Listener, protocol: Any
) -> None:
    """PROTOCOL_TLS contexts are created like this, so it is hardly intended."""
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
        context = ssl.SSLContext(protocol)
    with pytest.raises(
        ValueError, match=r"anyone could impersonate .* verify_mode = ssl\.CERT_NONE"
    ):
        await group.connect(tls_listener.address, ssl=context)
    with pytest.raises(ValueError, match="verifies no certificate"):
        await anext(group.reconnecting(tls_listener.address, ssl=context))


@pytest.mark.parametrize("make", ["for clients", "for either side, and told to verify"])
async def test_a_context_that_was_configured_on_purpose_is_accepted(
    group: tofu.ChannelGroup, tls_listener: tofu.Listener, make: str
) -> None:
    if make == "for clients":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS)
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    client, server = await asyncio.gather(
        group.connect(tls_listener.address, ssl=context), tls_listener.accept()
    )
    await asyncio.gather(client.aclose(), server.aclose())


async def test_a_listener_s_context_may_be_one_for_either_side(group: tofu.ChannelGroup) -> None:
    """A listener does not have to verify its clients."""
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    async with await group.listen(HERE, ssl=context) as listener:
        client, server = await asyncio.gather(
            group.connect(listener.address, ssl=client_context()), listener.accept()
        )
        await asyncio.gather(client.aclose(), server.aclose())


async def test_a_name_that_is_none(group: tofu.ChannelGroup, tls_listener: tofu.Listener) -> None:
    with pytest.raises(ValueError, match="server_hostname"):
        await group.connect(tls_listener.address, ssl=client_context(), server_hostname="")


# --- ends and cuts ---------------------------------------------------------------------------


async def test_every_split_of_the_bytes_is_the_same(
    raw_tls: tuple[RawTls, tofu.Channel],
) -> None:
    peer, channel = raw_tls
    for byte in peer.sealed(frame(body=b"a") + frame(body=b"b")):
        await peer.raw.send(bytes([byte]))
        await turns(1)
    for body in (b"a", b"b"):
        with await channel.receive() as message:
            assert message.body == body
    channel.abort()


async def test_a_byte_of_an_unfinished_record_is_a_sign_of_life(
    raw_tls: tuple[RawTls, tofu.Channel],
) -> None:
    """On a slow line a record takes longer than a peer may be silent."""
    peer, channel = raw_tls
    layer = transport_of(channel)
    await peer.raw.send(peer.sealed(BEAT))
    await until(lambda: takes_part(channel))
    record = peer.sealed(frame(body=bytes(100)))
    for byte in record[:20]:
        before = layer.get_extra_info(SEALED)
        await peer.raw.send(bytes([byte]))
        await until(lambda before=before: layer.get_extra_info(SEALED) > before)  # type: ignore[misc]
        look(channel)
    assert channel.state is State.OPEN
    for _ in range(6):
        look(channel)
    assert channel.state is State.CLOSED


@pytest.mark.parametrize("how", ["notice", "half close", "close", "reset"])
async def test_a_peer_that_closes_without_a_bye_is_lost(
    raw_tls: tuple[RawTls, tofu.Channel], how: str
) -> None:
    """It is lost with or without a close_notify: only a Bye counts."""
    peer, channel = raw_tls
    await peer.raw.send(peer.sealed(frame(body=b"last")))
    if how == "notice":
        await peer.raw.send(peer.notify())
    elif how == "half close":
        peer.raw.half_close()
    elif how == "close":
        peer.raw.close()
    else:
        await until(lambda: channel.statistics().received == 2)
        await peer.raw.reset()
    with await channel.receive() as message:
        assert message.body == b"last"
    with pytest.raises(tofu.PeerDisconnected):
        await channel.receive()


async def test_a_forged_record_ends_the_channel(
    raw_tls: tuple[RawTls, tofu.Channel],
) -> None:
    peer, channel = raw_tls
    await peer.raw.send(peer.sealed(frame(body=b"true")))
    forged = bytearray(peer.sealed(frame(body=b"false")))
    forged[-1] ^= 1
    await peer.raw.send(bytes(forged))
    with await channel.receive() as message:
        assert message.body == b"true"
    for _ in range(2):
        # The text is OpenSSL's, and differs between versions.
        with pytest.raises(
            tofu.CommunicationFailed, match=r"TLS failed: .*(bad record|record layer)"
        ):
            await channel.receive()
    assert channel.state is State.CLOSED


async def test_an_end_that_follows_a_failure_does_not_hide_it(
    raw_tls: tuple[RawTls, tofu.Channel],
) -> None:
    """Windows' proactor reports the peer's end of stream even after an abort."""
    peer, channel = raw_tls
    layer = transport_of(channel)
    assert isinstance(layer, Tls)
    await peer.raw.send(b"this is no record")
    await until(layer.is_closing)
    layer.eof_received()
    with pytest.raises(tofu.CommunicationFailed, match="TLS failed"):
        await channel.receive()


@keeps_what_came_before_a_reset
async def test_what_the_kernel_holds_of_a_lost_peer_is_delivered(
    raw_tls: tuple[RawTls, tofu.Channel],
) -> None:
    """A write notices the loss, while the pool is exhausted."""
    peer, channel = raw_tls
    await peer.raw.send(b"".join(peer.sealed(frame(body=b"%d" % n)) for n in range(9)))
    await until(lambda: not transport_of(channel).is_reading())
    for number in range(9, 40):
        await peer.raw.send(peer.sealed(frame(body=b"%d" % number + bytes(900))))
    await peer.raw.reset()
    while channel.end is None:
        channel.post(tofu.Message(OpCode.SIGNAL, b"is anybody there?"))
        await settled(channel)
    for number in range(40):
        with await channel.receive() as message:
            assert message.body.rstrip(b"\0") == b"%d" % number
    with pytest.raises(tofu.PeerDisconnected):
        await channel.receive()


async def test_a_peer_that_does_not_answer_its_bye_is_left_in_time(
    raw_tls: tuple[RawTls, tofu.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, channel = raw_tls
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.05)
    await channel.aclose()
    assert connection_of(channel).closing.done.done()
    await peer.raw.end()


async def test_pending_connections_beyond_the_limit_wait_without_a_handshake(
    group: tofu.ChannelGroup, engine: tofu.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.messaging.accepting import admission

    monkeypatch.setattr(admission, "PENDING_CHANNELS", 2)
    async with await group.listen(HERE, ssl=server_context()) as listener:
        clients = [
            asyncio.create_task(group.connect(listener.address, ssl=client_context()))
            for _ in range(6)
        ]
        await until(lambda: len(listener._ready.items) == 2)
        await turns(30)
        assert engine.statistics().channels == 1 + 6 + 2
        servers = [await listener.accept() for _ in clients]
        await asyncio.gather(*(c.aclose() for c in [*servers, *[await c for c in clients]]))


async def test_an_abort_is_a_reset_and_no_orderly_end(
    raw_tls: tuple[RawTls, tofu.Channel],
) -> None:
    peer, channel = raw_tls
    channel.abort()
    await peer.raw.until_reset()

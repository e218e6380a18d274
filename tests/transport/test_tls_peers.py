"""A peer that misuses TLS loses its channel, and costs a limited number of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import authority, client_context, server_context, telling
from tests.messaging.peers import (
    RESET,
    RawPeer,
    RawServer,
    admission_of,
    connection_of,
    frame,
    hello,
    turns,
    until,
)
from tests.messaging.raw_tls import RawTls
from tests.messaging.records import HANDSHAKE, HELLO_REQUEST, KEY_UPDATE, Sealer
from tests.systems import keeps_what_came_before_a_reset
from tofu_aio import OpCode
from tofu_aio.messaging.connection import send_queue as send_queue_module
from tofu_aio.messaging.connection.connection import Connection
from tofu_aio.protocol.binary_header import HEADER
from tofu_aio.transport import tls as tls_module
from tofu_aio.transport.limits import WRITE_HIGH_WATER
from tofu_aio.transport.tls import SEALED

HERE = "tcp://127.0.0.1:0"
HIGH_WATER = 4096
UNTAKEN = 2048
GARBAGE = b"\x17\x03\x03\x00\x20" + b"g" * 32
"""Bytes that look like a record, but were not encrypted with any key."""


@pytest.fixture
async def narrow(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tofu.ChannelGroup]:
    """A group whose channels have a low high-water mark."""
    monkeypatch.setattr(send_queue_module, "UNTAKEN_ANSWERS", UNTAKEN)
    monkeypatch.setattr(tls_module, "TLS_ANSWERS", 2**30)
    async with tofu.Engine(write_high_water=HIGH_WATER) as engine, engine.create_group() as group:
        yield group


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The key log file of a raw peer."""
    return tmp_path / "keys"


@contextlib.asynccontextmanager
async def raw_client(listener: tofu.Listener, keys: Path) -> AsyncIterator[tuple[RawTls, Sealer]]:
    """A raw client after its handshake."""
    with await RawPeer.connect(listener.address) as raw:
        peer = RawTls(raw, telling(keys, server_side=False))
        await peer.shake()
        yield peer, peer.sealer(keys)


@contextlib.asynccontextmanager
async def raw_channel(
    group: tofu.ChannelGroup, keys: Path
) -> AsyncIterator[tuple[RawTls, Sealer, tofu.Channel]]:
    """A raw client that has sent its Hello, and its channel."""
    async with (
        await group.listen(HERE, ssl=server_context()) as listener,
        raw_client(listener, keys) as (peer, sealer),
    ):
        await peer.raw.send(sealer.seal(hello()))
        yield peer, sealer, await listener.accept()


@contextlib.asynccontextmanager
async def raw_server(
    group: tofu.ChannelGroup, keys: Path, *, tls12: bool = False
) -> AsyncIterator[tuple[RawTls, Sealer, bytes, asyncio.Task[tofu.Channel]]]:
    """A raw server that has received a Hello, the answer to it, and the waiting client."""
    with RawServer() as server:
        connecting = asyncio.create_task(
            group.connect(server.address, ssl=client_context(tls12=tls12))
        )
        with await server.accept() as raw:
            peer = RawTls(raw, telling(keys, server_side=True), server_side=True)
            await peer.shake()
            message_id = HEADER.unpack_from(await peer.read())[3]
            answer = frame(OpCode.HELLO_RESPONSE, message_id=message_id)
            yield peer, peer.sealer(keys), answer, connecting


def takes_little(sock: socket.socket) -> None:
    """Make the socket buffers small in both directions."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


@contextlib.asynccontextmanager
async def drained(peer: RawPeer) -> AsyncIterator[None]:
    """Receive everything, until the end of the block."""
    draining = asyncio.create_task(peer.end())
    yield
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


# --- key updates -----------------------------------------------------------------------------


FLOOD = 5000
"""KeyUpdates of 27 bytes each. The answers to all of them exceed the high-water mark by far."""


async def check_flood(peer: RawTls, sealer: Sealer, connection: Connection) -> None:
    """A peer requests new keys and reads no answers: reading is suspended until it does."""
    transport = connection.queue.transport
    assert transport is not None
    takes_little(peer.raw.sock)
    takes_little(transport.get_extra_info("socket"))
    before = transport.get_extra_info(SEALED)
    flood = b"".join(sealer.seal(KEY_UPDATE, HANDSHAKE) for _ in range(FLOOD))
    sending = asyncio.create_task(peer.raw.send(flood))
    await until(lambda: not transport.is_reading(), "for the reading to stop")
    await turns(20)
    # One read gets up to 64 KiB, and all of it is answered.
    assert connection.queue.nbytes < len(flood) / 2
    async with drained(peer.raw):
        await sending
        # Only then, because reading may be suspended again before.
        await until(lambda: transport.get_extra_info(SEALED) >= before + len(flood))
        await until(transport.is_reading)


@pytest.mark.parametrize("when", ["before its Hello", "undecided", "open"])
async def test_a_client_that_takes_no_answers_of_tls_is_not_read(
    narrow: tofu.ChannelGroup, keys: Path, when: str
) -> None:
    async with (
        await narrow.listen(HERE, ssl=server_context(), hello_timeout=1000) as listener,
        raw_client(listener, keys) as (peer, sealer),
    ):
        if when == "before its Hello":
            await peer.raw.send(sealer.seal(hello()[:5]))
            await until(lambda: admission_of(listener)._undecided)
            (undecided,) = admission_of(listener)._undecided
            await check_flood(peer, sealer, undecided)
            await peer.raw.send(sealer.seal(hello()[5:]))
            channel = await listener.accept()
        else:
            await peer.raw.send(sealer.seal(hello() + frame(OpCode.SIGNAL, b"early")))
            channel = await listener.receive_hello()
            if when == "open":
                channel.accept()
            await check_flood(peer, sealer, connection_of(channel))
            if when == "undecided":
                channel.accept()
            with await channel.receive() as message:
                assert message.body == b"early"
        await peer.raw.send(sealer.seal(frame(OpCode.SIGNAL, b"later")))
        with await channel.receive() as message:
            assert message.body == b"later"
        channel.abort()


async def test_a_server_that_takes_no_answers_of_tls_is_not_read(
    narrow: tofu.ChannelGroup, keys: Path
) -> None:
    async with raw_server(narrow, keys) as (peer, sealer, answer, connecting):
        await peer.raw.send(sealer.seal(answer))
        channel = await connecting
        await check_flood(peer, sealer, connection_of(channel))
        await peer.raw.send(sealer.seal(frame(OpCode.SIGNAL, b"later")))
        with await channel.receive() as message:
            assert message.body == b"later"
        channel.abort()


async def test_key_updates_that_are_taken_hold_nobody_up(
    narrow: tofu.ChannelGroup, keys: Path
) -> None:
    async with raw_channel(narrow, keys) as (peer, sealer, channel):
        async with drained(peer.raw):
            for number in range(100):
                updates = b"".join(sealer.seal(KEY_UPDATE, HANDSHAKE) for _ in range(10))
                await peer.raw.send(updates + sealer.seal(frame(OpCode.SIGNAL, b"%d" % number)))
                with await channel.receive() as message:
                    assert message.body == b"%d" % number
        channel.abort()


async def test_a_client_that_only_asks_for_new_keys_loses_its_connection(
    group: tofu.ChannelGroup, keys: Path
) -> None:
    """Even if it reads the answers: each costs as much time as decrypting a lot of data."""
    async with raw_channel(group, keys) as (peer, sealer, channel):
        draining = asyncio.create_task(peer.raw.end())
        with contextlib.suppress(ConnectionError):
            for _ in range(FLOOD // 100):
                await peer.raw.send(
                    b"".join(sealer.seal(KEY_UPDATE, HANDSHAKE) for _ in range(100))
                )
            await peer.raw.send(sealer.seal(frame(OpCode.SIGNAL, b"still here?")))
        with pytest.raises(tofu.CommunicationFailed, match="requests new keys too often"):
            await channel.receive()
        await draining


async def test_a_peer_that_sends_enough_may_request_new_keys_as_often(
    group: tofu.ChannelGroup, keys: Path
) -> None:
    async with raw_channel(group, keys) as (peer, sealer, channel):
        async with drained(peer.raw):
            signal = frame(OpCode.SIGNAL, bytes(16_000))
            for _ in range(150):
                updates = b"".join(sealer.seal(KEY_UPDATE, HANDSHAKE) for _ in range(8))
                await peer.raw.send(updates + sealer.seal(signal))
                (await channel.receive()).release()
        channel.abort()


# --- what cannot be encrypted yet ------------------------------------------------------------


async def test_during_a_renegotiation_sending_waits(group: tofu.ChannelGroup, keys: Path) -> None:
    """A server requests one (TLS 1.2) and never completes it: nothing can be sent meanwhile."""
    async with raw_server(group, keys, tls12=True) as (peer, sealer, answer, connecting):
        await peer.raw.send(sealer.seal(answer) + sealer.seal(HELLO_REQUEST, HANDSHAKE))
        channel = await connecting
        assert (await peer.raw._receive())[0] == HANDSHAKE, "the client takes part"

        async def pour() -> None:
            for _ in range(100):
                await channel.signal(bytes(60_000))

        pouring = asyncio.create_task(pour())
        await until(lambda: connection_of(channel).queue.senders_waiting, "for a sender to wait")
        await turns(20)
        assert not pouring.done()
        assert channel.statistics().queued_bytes < 2 * WRITE_HIGH_WATER + 61_000
        channel.abort()
        with pytest.raises(tofu.ChannelClosed):
            await pouring


async def test_a_hello_longer_than_the_mark_goes_out_after_the_handshake(
    narrow: tofu.ChannelGroup,
) -> None:
    async with await narrow.listen(HERE, ssl=server_context()) as listener:
        client, server = await asyncio.gather(
            narrow.connect(listener.address, body=bytes(50_000), ssl=client_context()),
            listener.accept(),
        )
        assert len(server.hello.body) == 50_000
        for number in range(5):
            await client.signal(b"%d" % number)
            with await server.receive() as message:
                assert message.body == b"%d" % number
        await asyncio.gather(client.aclose(), server.aclose())


# --- who it was ------------------------------------------------------------------------------


async def test_a_hello_with_a_forged_record_behind_it_is_still_somebody_s(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one segment: TLS has failed, and lost its state, before the Hello is handled."""
    known = introductions(monkeypatch)
    async with await group.listen(HERE, ssl=server_context(mutual=True)) as listener:
        with await RawPeer.connect(listener.address) as raw:
            peer = RawTls(raw, client_context("ada@example.org"))
            await peer.shake()
            await raw.send(peer.sealed(hello()) + GARBAGE)
            await raw.end()
            await until(lambda: known)
            (channel,) = known
            certificate = channel.peer.certificate
            assert certificate is not None
            assert certificate["subjectAltName"] == (("email", "ada@example.org"),)
            assert channel.peer.certificate_der
            await until(lambda: isinstance(channel.end, tofu.CommunicationFailed))
            assert "TLS failed" in str(channel.end)


async def test_a_yes_with_a_forged_record_behind_it_is_still_somebody_s(
    group: tofu.ChannelGroup, keys: Path
) -> None:
    async with raw_server(group, keys) as (peer, sealer, answer, connecting):
        await peer.raw.send(sealer.seal(answer) + GARBAGE)
        channel = await connecting
        assert channel.peer.certificate is not None
        assert ("DNS", "localhost") in channel.peer.certificate["subjectAltName"]
        assert channel.peer.address is not None
        with pytest.raises(tofu.CommunicationFailed, match="TLS failed"):
            await channel.receive()
        await channel.aclose()


def introductions(monkeypatch: pytest.MonkeyPatch) -> list[tofu.Channel]:
    """Each channel of a listener whose Hello has arrived, even if nothing waits for it."""
    known: list[tofu.Channel] = []
    tell = tofu.Listener._introduced

    def introduced(listener: tofu.Listener, channel: tofu.Channel) -> None:
        if channel._dispatcher.hello is not None and channel not in known:
            known.append(channel)
        tell(listener, channel)

    monkeypatch.setattr(tofu.Listener, "_introduced", introduced)
    return known


@keeps_what_came_before_a_reset
async def test_a_peer_that_resets_at_once_still_has_an_address(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener has its Hello, but the kernel no longer knows the peer's address."""
    known = introductions(monkeypatch)
    async with await group.listen(HERE) as listener:
        assert isinstance(listener.address, tofu.TcpAddress)
        with socket.create_connection((listener.address.host, listener.address.port)) as sock:
            own = tofu.TcpAddress(*sock.getsockname())
            sock.sendall(hello())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await until(lambda: known)
        assert [channel.peer.address for channel in known] == [own]


def certificate_with(names: bytes, folder: Path) -> Path:
    """A client's certificate with this subjectAltName, signed by a trusted authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    signer = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(signer.cert_pem.bytes())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names), False
        )
        .sign(
            serialization.load_pem_private_key(signer.private_key_pem.bytes(), None),  # type: ignore[arg-type]
            hashes.SHA256(),
        )
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_certificate_that_cannot_be_read_is_refused(
    group: tofu.ChannelGroup, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It passes all checks of the handshake, but Python cannot parse it."""
    caplog.set_level("INFO", "tofu_aio")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    name = b"\xff\xfe"  # a DNS name, that is no text
    context.load_cert_chain(
        certificate_with(b"\x30" + bytes([len(name) + 2, 0x82, len(name)]) + name, tmp_path)
    )
    async with await group.listen(HERE, ssl=server_context(mutual=True)) as listener:
        with pytest.raises(tofu.ConnectFailed):
            await group.connect(listener.address, ssl=context)
        await until(lambda: "the peer's certificate cannot be read" in caplog.text)
        await until(lambda: not admission_of(listener)._undecided)

"""Whatever a peer says in TLS, under the keys of a good handshake or none: it costs it its channel.

On either side; see ``test_fuzz.py``, whose session runs these too.
"""

# ruff: noqa: ASYNC240 - a test may block

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tofu_aio as tofu
from tests.conftest import _LOOPS
from tests.faults.counting import COUNTS
from tests.faults.test_fuzz import (
    PATIENCE,
    Service,
    answer_requests,
    entered,
    frames,
    fuzz,
    good,
    many_examples,
    on,
    quiet_engine,
)
from tests.messaging.certificates import client_context, server_context, telling
from tests.messaging.peers import RawPeer, RawServer, frame, hello, turns
from tests.messaging.raw_tls import RawTls
from tests.messaging.records import ALERT, DATA, HANDSHAKE, KEY_UPDATE, Sealer
from tofu_aio import OpCode
from tofu_aio.protocol.binary_header import HEADER

RECORD = 2**14
"""Bytes that one may have."""


class Move(NamedTuple):
    """What a peer does next.

    Attributes:
        content: of a record.
        kind: the record's content type; None for bytes as they are.
        spoilt: which byte of the record is changed, counted from its end; None for none.
        pause: turns of the loop after it; None for what goes out together with the next.
    """

    content: bytes
    kind: int | None
    spoilt: int | None
    pause: int | None


pauses = st.none() | st.integers(0, 3)
said = st.builds(Move, good | frames, st.just(DATA), st.none(), pauses)
handshakes = st.just(KEY_UPDATE) | st.builds(
    lambda kind, content, length: (
        struct.pack(">BI", kind, length)[:1] + struct.pack(">I", length)[1:] + content
    ),
    st.integers(0, 255) | st.sampled_from([0, 1, 2, 4, 13, 20, 24]),
    st.binary(max_size=40),
    st.integers(0, 60) | st.just(2**24 - 1),
)
protocol = st.builds(
    lambda made, pause: Move(made[1], made[0], None, pause),
    st.tuples(st.just(HANDSHAKE), handshakes)
    | st.tuples(st.just(ALERT), st.binary(max_size=4))
    | st.tuples(st.integers(0, 255), st.binary(max_size=40)),
    pauses,
)
spoilt = st.builds(Move, good, st.just(DATA), st.integers(1, 30), pauses)
bare = st.builds(
    Move,
    st.binary(max_size=60)
    | st.builds(
        lambda kind, version, length, content: struct.pack(">BHH", kind, version, length) + content,
        st.integers(18, 26),
        st.sampled_from([0x0301, 0x0303, 0x0304, 0]),
        st.integers(0, 70) | st.sampled_from([16_384, 16_640, 65_535]),
        st.binary(max_size=70),
    ),
    st.none(),
    st.none(),
    pauses,
)
moves = st.lists(said | protocol | spoilt | bare, max_size=8)
stages = st.sampled_from(["at once", "in the handshake", "after it", "after its Hello"])


async def make(peer: RawTls, moves: list[Move], sealer: Sealer | None = None) -> None:
    """Send it all; without keys, as it is."""
    together = b""
    for move in moves:
        record = move.content
        if sealer is not None and move.kind is not None:
            pieces = [record[at : at + RECORD] for at in range(0, len(record) or 1, RECORD)]
            record = b"".join(sealer.seal(piece, move.kind) for piece in pieces)
            if move.spoilt is not None:
                changed = bytearray(record)
                changed[-move.spoilt] ^= 1
                record = bytes(changed)
        together += record
        if move.pause is not None:
            await peer.raw.send(together)
            await turns(move.pause)
            together = b""
    await peer.raw.send(together)


# --- a listener ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def tls_service() -> AsyncIterator[Service]:
    async with quiet_engine() as engine:
        served, clients = engine.create_group(), engine.create_group()
        listener = await served.listen("tcp://127.0.0.1:0", ssl=server_context(), hello_timeout=60)
        serving = asyncio.create_task(listener.serve(answer_requests))
        one = Service(engine, listener.address)
        one.honest.append(await clients.connect(listener.address, ssl=client_context()))
        yield one
        await one.honest[0].aclose()
        await listener.aclose()
        await serving


async def attack_listener(
    target: Service, context: ssl.SSLContext, keys: Path, stage: str, moves: list[Move]
) -> None:
    keys.write_bytes(b"")
    with await RawPeer.connect(target.addresses[0]) as raw:
        peer = RawTls(raw, context)
        sealer = None
        with contextlib.suppress(OSError):  # the server may have left already
            if stage == "in the handshake":
                with pytest.raises(ssl.SSLWantReadError):
                    peer._ssl.do_handshake()
                await peer._send()
            elif stage != "at once":
                await peer.shake()
                sealer = peer.sealer(keys)
            if sealer is not None and stage == "after its Hello":
                moves = [Move(hello(), DATA, None, None), *moves]
            await make(peer, moves, sealer)
            await turns(10)
    await target.goes_on()


@fuzz
@pytest.mark.parametrize("loop", _LOOPS)
def test_no_record_harms_a_listener(loop: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    context = telling(keys, server_side=False)
    with on(loop) as runner, entered(runner, tls_service()) as target:

        @many_examples
        @given(stages, moves)
        def attack(stage: str, moves: list[Move]) -> None:
            COUNTS["fuzzed TLS clients"] += 1
            runner.run(attack_listener(target, context, keys, stage, moves))

        attack()


# --- a client --------------------------------------------------------------------------------


async def use(group: tofu.ChannelGroup, address: tofu.Address) -> None:
    """What a client does with a server that it trusts, and all that it has to expect."""
    try:
        channel = await group.connect(address, ssl=client_context(), timeout=PATIENCE)
    except tofu.ConnectFailed:
        return
    async with channel:
        assert channel.peer.certificate is not None
        assert channel.peer.address == address
        with contextlib.suppress(tofu.TofuError):
            async for message in channel:
                with message:
                    if message.op_code is OpCode.REQUEST:
                        await channel.reply(message, message.body)


async def attack_client(
    engine: tofu.Engine, context: ssl.SSLContext, keys: Path, stage: str, moves: list[Move]
) -> None:
    keys.write_bytes(b"")
    with RawServer() as server:
        async with engine.create_group() as group, asyncio.timeout(4 * PATIENCE):
            using = asyncio.create_task(use(group, server.address))
            with await server.accept() as raw:
                peer = RawTls(raw, context, server_side=True)
                with contextlib.suppress(OSError):  # the client may have left already
                    if stage == "at once":
                        await make(peer, moves)
                    elif stage == "in the handshake":
                        peer._incoming.write(await raw._receive())
                        with pytest.raises(ssl.SSLWantReadError):
                            peer._ssl.do_handshake()
                        await peer._send()
                        await make(peer, moves)
                    else:
                        await peer.shake()
                        message_id = HEADER.unpack_from(await peer.read())[3]
                        response = frame(OpCode.HELLO_RESPONSE, message_id=message_id)
                        answer = Move(response, DATA, None, None)
                        answers = [answer] if stage == "after its Hello" else []
                        await make(peer, [*answers, *moves], peer.sealer(keys))
                    await turns(10)
            await using
    assert engine.statistics().channels == 0


@fuzz
@pytest.mark.parametrize("loop", _LOOPS)
def test_no_record_harms_a_client(loop: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    context = telling(keys, server_side=True)
    with on(loop) as runner, entered(runner, quiet_engine()) as engine:

        @many_examples
        @given(stages, moves)
        def attack(stage: str, moves: list[Move]) -> None:
            COUNTS["fuzzed TLS servers"] += 1
            runner.run(attack_client(engine, context, keys, stage, moves))

        attack()

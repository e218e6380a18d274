"""Whatever a loop calls, in whatever order it may: nothing is raised into it, and nothing stays.

Here the transport is the test's own, for real ones bring few of the orders that asyncio allows. It
is as strict as uvloop's: once lost, it takes no calls but those that any transport takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tofu_aio as tofu
from tests.conftest import _LOOPS
from tests.faults.counting import COUNTS
from tests.faults.test_fuzz import (
    PATIENCE,
    answer_requests,
    entered,
    frames,
    fuzz,
    good,
    many_examples,
    on,
    quiet_engine,
)
from tests.messaging.certificates import client_context, server_context
from tests.messaging.peers import admission_of, frame, hello, turns, until
from tofu_aio import OpCode
from tofu_aio.messaging.accepting.connection_counts import NOT_COUNTED
from tofu_aio.messaging.accepting.pending_connection import PendingConnection
from tofu_aio.protocol.binary_header import HEADER
from tofu_aio.transport import transports


class Wire(asyncio.Transport):
    """A transport that does what it is told, when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any
        self.said = b""
        self._loop = asyncio.get_running_loop()
        self._unsent = 0
        self._high = 0
        self._paused = False
        self._reading = True
        self._closing = False
        self._eof = False
        self.lost = False
        self.sock = socket.socket()
        self.sock.close()  # as one may be at any time: what is done with it fails

    # --- what a loop does -----------------------------------------------------------------

    def bring(self, data: bytes) -> None:
        """Some bytes have come; if it is read."""
        if not self._reading or self._closing:
            return
        if isinstance(self.protocol, asyncio.BufferedProtocol):
            while data:
                buffer = memoryview(self.protocol.get_buffer(-1))
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
                data = data[size:]
                self.protocol.buffer_updated(size)
                if not self._reading or self._closing:
                    break
        else:
            self.protocol.data_received(data)

    def end_of_stream(self) -> None:
        """The peer sends no more."""
        if self._reading and not self._closing:
            self._reading = False
            if not self.protocol.eof_received():
                self.close()

    def drain(self) -> None:
        """The kernel has taken all."""
        self._unsent = 0
        if self._paused:
            self._paused = False
            self.protocol.resume_writing()
        if self._closing:
            self._loop.call_soon(self.lose, None)

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = self._closing = True
            self.protocol.connection_lost(error)

    # --- a transport ----------------------------------------------------------------------

    def _check(self) -> None:
        if self.lost:
            raise RuntimeError("the handle is closed")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        if self._eof:
            raise RuntimeError("write after write_eof")
        if self._closing:
            return
        self.said += data
        self._unsent += len(data)
        self._maybe_pause()

    def _maybe_pause(self) -> None:
        if self._unsent > self._high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._check()
        self._eof = True

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._unsent:
                self._loop.call_soon(self.lose, None)

    def abort(self) -> None:
        self._closing = True
        self._unsent = 0
        self._loop.call_soon(self.lose, None)

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._check()
        assert high is not None
        self._high = high
        self._maybe_pause()

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol  # type: ignore[no-any-return]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if self.lost and name == "sockname":
            raise OSError(errno.EBADF, "Bad file descriptor")
        return self.sock if name == "socket" else default


class Voice:
    """The peer's end: plain, or in TLS."""

    def __init__(self, wire: Wire, context: ssl.SSLContext | None, *, server_side: bool) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._heard = 0
        self.ssl = context and context.wrap_bio(
            self._incoming, self._outgoing, server_side, None if server_side else "127.0.0.1"
        )

    def hear(self) -> bytes:
        """What was said since."""
        data, self._heard = self._wire.said[self._heard :], len(self._wire.said)
        return data

    async def shake(self) -> None:
        """Make the handshake, if there is one."""
        done = self.ssl is None
        while not done:
            assert self.ssl is not None
            try:
                self.ssl.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            self._wire.bring(self._outgoing.read())
            await turns(1)
            self._incoming.write(self.hear())

    def listen(self) -> bytes:
        """What was said since, in the clear."""
        if self.ssl is None:
            return self.hear()
        self._incoming.write(self.hear())
        return self.ssl.read(65536)

    def say(self, data: bytes) -> None:
        """Have it heard, if anybody reads."""
        if self.ssl is not None:
            self.ssl.write(data)
            data = self._outgoing.read()
        self._wire.bring(data)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), good | frames),
        st.tuples(st.just("bring"), st.binary(max_size=60)),
        st.tuples(st.sampled_from(["eof", "drain", "turn", "close", "abort"]), st.none()),
        st.tuples(
            st.just("lose"),
            st.sampled_from(
                [None, ConnectionResetError(errno.ECONNRESET, "reset"), OSError(110, "gone")]
            ),
        ),
    ),
    max_size=12,
)


async def take(steps: list[tuple[str, Any]], wire: Wire, voice: Voice) -> None:
    """Take all steps, as far as the connection lives; then lose it."""
    for step, what in steps:
        if wire.lost:
            break
        match step:
            case "say":
                voice.say(what)
            case "bring":
                wire.bring(what)
            case "eof":
                wire.end_of_stream()
            case "drain":
                wire.drain()
            case "close":
                wire.close()
            case "abort":
                wire.abort()
            case "lose":
                wire.lose(what)
            case _:
                await turns(1)
    wire.lose(None)
    await turns(3)


def contexts(tls: str) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The server's, and the client's."""
    if tls == "plain":
        return None, None
    return server_context(), client_context(tls12=tls == "TLS 1.2")


@contextlib.asynccontextmanager
async def served(
    context: ssl.SSLContext | None,
) -> AsyncIterator[tuple[tofu.Engine, tofu.Listener]]:
    async with quiet_engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0", ssl=context, hello_timeout=60)
        serving = asyncio.create_task(listener.serve(answer_requests))
        yield engine, listener
        await listener.aclose()
        await serving


async def call_listener(
    target: tuple[tofu.Engine, tofu.Listener],
    context: ssl.SSLContext | None,
    introduced: bool,
    steps: list[tuple[str, Any]],
) -> None:
    engine, listener = target
    wire = Wire()
    wire.protocol = caller = PendingConnection(
        admission_of(listener), NOT_COUNTED, None, lambda: None
    )
    caller.connection_made(wire)
    voice = Voice(wire, context, server_side=False)
    if introduced:
        await voice.shake()
        voice.say(hello())
    elif context is not None:
        steps = [step for step in steps if step[0] != "say"]
    await take(steps, wire, voice)
    await until(lambda: engine.statistics().channels == 1)


PARTIES = pytest.mark.parametrize("tls", ["plain", "TLS 1.2", "TLS 1.3"])


@fuzz
@PARTIES
@pytest.mark.parametrize("loop", _LOOPS)
def test_no_order_of_calls_harms_a_listener(loop: str, tls: str) -> None:
    server, client = contexts(tls)
    with on(loop) as runner, entered(runner, served(server)) as target:

        @many_examples
        @given(st.booleans(), steps)
        def call(introduced: bool, steps: list[tuple[str, Any]]) -> None:
            COUNTS["fuzzed orders of calls"] += 1
            runner.run(call_listener(target, client, introduced, steps))

        call()


async def call_client(
    engine: tofu.Engine,
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
    answered: bool,
    steps: list[tuple[str, Any]],
) -> None:
    server, client = contexts
    wire = Wire()

    async def connect(_: object, protocol: Any, *__: object) -> None:
        wire.protocol = protocol
        protocol.connection_made(wire)

    async def use(group: tofu.ChannelGroup) -> None:
        with contextlib.suppress(tofu.TofuError):
            async with group.connect("tcp://127.0.0.1:1", ssl=client, timeout=PATIENCE) as channel:
                assert channel.peer
                async for message in channel:
                    message.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transports, "connect", connect)
        async with engine.create_group() as group, asyncio.timeout(4 * PATIENCE):
            using = asyncio.create_task(use(group))
            await until(lambda: wire.said)
            voice = Voice(wire, server, server_side=True)
            if answered:
                voice._incoming.write(voice.hear() if server is not None else b"")
                await voice.shake()
                await turns(1)
                message_id = HEADER.unpack_from(voice.listen())[3]
                voice.say(frame(OpCode.HELLO_RESPONSE, message_id=message_id))
            elif server is not None:
                steps = [step for step in steps if step[0] != "say"]
            await take(steps, wire, voice)
            await using
    assert engine.statistics().channels == 0


@fuzz
@PARTIES
@pytest.mark.parametrize("loop", _LOOPS)
def test_no_order_of_calls_harms_a_client(loop: str, tls: str) -> None:
    with on(loop) as runner, entered(runner, quiet_engine()) as engine:

        @many_examples
        @given(st.booleans(), steps)
        def call(answered: bool, steps: list[tuple[str, Any]]) -> None:
            COUNTS["fuzzed orders of calls"] += 1
            runner.run(call_client(engine, contexts(tls), answered, steps))

        call()

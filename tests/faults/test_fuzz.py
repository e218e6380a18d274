"""Whatever bytes come, in whatever chunks: a listener goes on serving, and nothing leaks.

``nox -s fuzz -- 100000`` tries so many examples on each loop; the usual run tries a few.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tofu_aio as tofu
from tests.conftest import _LOOPS, open_descriptors
from tests.faults.counting import COUNTS
from tests.messaging.peers import RESET, RawPeer, frame, hello, turns, until
from tests.messaging.posting.test_posted import listening, message
from tests.systems import heard_by_loop, on_a_proactor
from tofu_aio import OpCode

T = TypeVar("T")

PATIENCE = 5.0
"""Shorter than elsewhere: looking for the smallest failing example waits it out many times."""
EXAMPLES = int(os.environ.get("TOFU_FUZZ_EXAMPLES", "80"))

numbers = st.sampled_from([0, 1, 2, 255, 2**16 - 1, 2**64 - 1])
lengths = st.none() | st.sampled_from([0, 1, 20, 65_535])
lines = st.sampled_from([b"", b"A:b\r\n", b"A", b":\r\n", b"\xff\xfe:\r\n", b"~eof:1\r\n"])
frames = st.builds(
    lambda op_code, body, headers, number, status, headers_len, body_len: frame(
        op_code,
        body,
        headers,
        message_id=number,
        status=status,
        headers_len=headers_len,
        body_len=body_len,
    ),
    st.integers(0, 255) | st.sampled_from(list(OpCode)),
    st.binary(max_size=20) | st.just(bytes(60_000)),
    lines | st.binary(max_size=10),
    numbers,
    st.integers(0, 255),
    lengths,
    lengths,
)
good = st.sampled_from(
    [hello(), frame(body=b"?"), frame(OpCode.BYE_REQUEST), frame(OpCode.BYE_RESPONSE)]
)
chunks = st.lists(
    st.tuples(good | frames | st.binary(max_size=100), st.integers(0, 3)), max_size=8
).flatmap(lambda after: st.sampled_from([after, [(hello(), 1), *after]]))
lasts = st.sampled_from(["close", "reset", "half-close", "wait"])


class Service:
    """An engine that listens at some addresses, and an honest client of each."""

    def __init__(self, engine: tofu.Engine, *addresses: tofu.Address) -> None:
        self.engine = engine
        self.addresses = addresses
        self.honest: list[tofu.Channel] = []

    async def attacked(self, pieces: list[tuple[bytes, int]], last: str, which: int) -> None:
        """Somebody sends this and leaves; then an honest client is served."""
        with await RawPeer.connect(self.addresses[which]) as peer:
            with contextlib.suppress(OSError):  # the server may have left already
                for data, pause in pieces:
                    await peer.send(data)
                    await turns(pause)
                if last == "half-close":
                    peer.half_close()
            if last in {"half-close", "wait"}:
                # Perhaps a good Hello: then the server has no reason to leave, and we do.
                await turns(10)
            if last == "reset":
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await self.goes_on()

    async def goes_on(self) -> None:
        """Honest clients are served, and of nobody else anything is left."""
        async with asyncio.timeout(PATIENCE):
            for channel in self.honest:
                with await channel.request(b"?") as response:
                    assert response.body == b"?"
        open_channels = len(self.addresses) + 2 * len(self.honest)
        await until(lambda: self.engine.statistics().channels == open_channels, "for the liar")
        if not self.all_is_back():
            gc.collect()
        await until(self.all_is_back, "for the permits")

    def all_is_back(self) -> bool:
        """Whether no message holds anything."""
        now = self.engine.statistics()
        return (now.pool_free, now.reserves, now.joining_bytes) == (now.pool_size, 0, 0)


async def answer_requests(channel: tofu.Channel) -> None:
    """Echo, whatever else comes."""
    async for asked in channel:
        with asked:
            if asked.op_code is OpCode.REQUEST and not asked.more:
                await channel.reply(asked, asked.body)


async def answer_posted(group: tofu.ChannelGroup) -> None:
    """Accept, echo, and answer Byes, as a server of plain messages does."""
    answers = {
        OpCode.HELLO_REQUEST: OpCode.HELLO_RESPONSE,
        OpCode.REQUEST: OpCode.RESPONSE,
        OpCode.BYE_REQUEST: OpCode.BYE_RESPONSE,
    }
    with contextlib.suppress(tofu.ChannelClosed):
        while True:
            with await group.receive() as asked:
                if asked.origin is tofu.Origin.ENGINE or asked.op_code not in answers:
                    continue
                number = asked.message_id if asked.op_code is OpCode.REQUEST else 0
                reply = message(
                    answers[asked.op_code], asked.channel_number, asked.body, message_id=number
                )
                # The asker may have broken a rule since, and be closed or gone for it.
                lost = tofu.PeerDisconnected, tofu.ProtocolViolation, tofu.InvalidChannelNumber
                with contextlib.suppress(*lost):
                    group.post(reply)


@contextlib.asynccontextmanager
async def quiet_engine() -> AsyncIterator[tofu.Engine]:
    """An engine that leaves nothing behind, and whose callbacks raise nothing."""
    heard = heard_by_loop()
    async with tofu.Engine(pool_messages=4) as engine:
        yield engine
    if on_a_proactor():  # what it has left is not to be found by another test
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    assert not heard, heard
    left = engine.statistics()
    assert (left.pool_free, left.reserves, left.joining_bytes) == (4, 0, 0)
    assert (left.channels, left.waiting, left.over_share) == (0, 0, 0)


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[Service]:
    async with quiet_engine() as engine:
        streams, posts, clients = (engine.create_group() for _ in range(3))
        listener = await streams.listen("tcp://127.0.0.1:0", hello_timeout=60)
        serving = asyncio.create_task(listener.serve(answer_requests))
        _, address = await listening(posts, "tcp://127.0.0.1:0")
        posting = asyncio.create_task(answer_posted(posts))
        one = Service(engine, listener.address, address)
        for where in one.addresses:
            one.honest.append(await clients.connect(where))
        yield one
        await asyncio.gather(*(channel.aclose() for channel in one.honest))
        await listener.aclose()
        await posts.aclose()
        await asyncio.gather(serving, posting)


@contextlib.contextmanager
def no_error_logged() -> Iterator[None]:
    """Whoever attacks can write no error, or more, into anybody's log."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    assert not records, [record.getMessage() for record in records]


@contextlib.contextmanager
def on(loop: str) -> Iterator[asyncio.Runner]:
    """Runs what it is given on such a loop; no descriptor stays, and the log has no errors."""
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as first:
        first.run(turns(1))  # libuv opens a pipe once and keeps it
    before = open_descriptors()
    factory = tofu.loop_factory(loop)
    with no_error_logged(), asyncio.Runner(loop_factory=factory) as runner:
        yield runner
    left = open_descriptors()
    assert len(left) <= len(before), left


@contextlib.contextmanager
def entered(runner: asyncio.Runner, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter something in a loop that runs for a moment at a time; leave it if all is well."""
    yield runner.run(manager.__aenter__())
    runner.run(manager.__aexit__(None, None, None))


many_examples = settings(
    max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck)
)
fuzz = pytest.mark.timeout(0 if EXAMPLES > 1000 else 120)


# Windows' proactor leaves the sockets of failed accepts to be collected, whenever that is.
LEAVES_SOCKETS = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
LOOPS = [
    pytest.param(loop, marks=LEAVES_SOCKETS)
    if sys.platform == "win32" and loop == "asyncio"
    else loop
    for loop in _LOOPS
]


@fuzz
@pytest.mark.parametrize("loop", LOOPS)
def test_no_bytes_harm_a_listener(loop: str) -> None:
    with on(loop) as runner, entered(runner, service()) as target:

        @many_examples
        @given(chunks, lasts, st.integers(0, 1))
        def attack(pieces: list[tuple[bytes, int]], last: str, which: int) -> None:
            COUNTS["fuzzed connections"] += 1
            runner.run(target.attacked(pieces, last, which))

        attack()

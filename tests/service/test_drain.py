"""Shutting down: peers are told, work in progress ends, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, until
from tests.service.serving import answer_to, call_frame, failure_of, served
from tests.service.test_service import Gate, sample
from tofu_aio import OpCode


async def drained(gate: Gate, there: object, seconds: float = 30) -> None:
    await asyncio.gather(there.listener.drain(seconds), gate.service.drain())  # type: ignore[attr-defined]


async def test_an_idle_peer_of_plain_tofu_is_sent_a_bye() -> None:
    gate = Gate()
    async with served(gate.service) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            draining = asyncio.create_task(drained(gate, there))
            message = await peer.message()
            assert message.op_code in {OpCode.BYE_REQUEST, OpCode.BYE_SIGNAL}
            peer.close()
            await draining


async def test_a_running_call_is_answered_before_the_bye() -> None:
    gate = Gate()
    async with served(gate.service) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(call_frame("wait", b"1"))
            await until(lambda: gate.running)
            draining = asyncio.create_task(drained(gate, there))
            await until(lambda: gate.service.draining)
            answer = await answer_to(peer, call_frame("tofu.health", message_id=8))
            assert answer.body == b'{"status":"draining"}'
            gate.open.set()
            assert (await peer.message()).body == b"1"
            assert (await peer.message()).op_code in {OpCode.BYE_REQUEST, OpCode.BYE_SIGNAL}
            peer.close()
            await draining


async def test_calls_that_wait_for_their_turn_are_answered_too() -> None:
    gate = Gate()
    limits = {"concurrency": 1, "channel_concurrency": 1}
    async with (
        served(gate.service, limits=limits) as there,
        there.client() as one,
        there.client() as other,
    ):
        calls = [asyncio.create_task(one.call("wait", 1))]
        await until(lambda: gate.running)
        calls.append(asyncio.create_task(other.call("wait", 2)))
        await until(lambda: any(session._waits for session in gate.service._sessions))
        draining = asyncio.create_task(drained(gate, there))
        async with asyncio.timeout(20):
            await asyncio.sleep(1.1)  # so long a peer has time to leave by itself
        gate.open.set()
        assert await asyncio.gather(*calls) == [1, 2]
        await draining


async def test_a_call_that_hangs_is_cancelled_when_the_time_is_over() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client() as client:
        call = asyncio.create_task(client.call("wait", 1))
        stream = client.stream("ticks", 1, item=int)
        assert await anext(stream) == 1
        await until(lambda: gate.running == 2)
        await drained(gate, there, 0)
        assert gate.cancelled == 2
        assert isinstance(await failure_of(call), tofu.TofuError)
        assert isinstance(await failure_of(anext(stream)), tofu.TofuError)


async def test_an_idle_client_of_ours_leaves_by_itself() -> None:
    service = sample()
    async with served(service) as there, there.client() as client:
        assert await client.call("echo", 1) == 1
        assert [n async for n in client.stream("double", echo_items(), item=int)] == [2]
        await there.listener.drain(30)  # the service itself closes nothing
        await until(lambda: not service._sessions)


async def echo_items():  # type: ignore[no-untyped-def]
    yield 1


# --- signals, in a process of its own -------------------------------------------------------------

SERVER = """
import asyncio, sys
from collections.abc import AsyncIterator
import tofu_aio as tofu

service = tofu.Service()

@service.handler("wait")
async def wait(seconds: float) -> str:
    print("waiting", flush=True)
    await asyncio.sleep(seconds)
    return "done"

@service.handler("watch")
async def watch(seconds: float) -> AsyncIterator[int]:
    yield 1
    print("waiting", flush=True)
    await asyncio.sleep(seconds)
    yield 2

@service.handler("store")
async def store(parts: AsyncIterator[bytes]) -> int:
    print("waiting", flush=True)
    return sum([len(part) async for part in parts])

class Status:
    def started(self, addresses):
        print(addresses[0], flush=True)

main = service.serve("tcp://127.0.0.1:0", drain=float(sys.argv[1]), task_status=Status())
with asyncio.Runner(loop_factory=tofu.loop_factory(sys.argv[2])) as runner:
    runner.run(main)
print("ended", flush=True)
"""


class Process:
    """A service in a process."""

    def __init__(self, drain: float, loop: str) -> None:
        command = [sys.executable, "-W", "error", "-c", SERVER, str(drain), loop]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.to_thread(self.process.stdout.readline)).strip()

    async def ended(self) -> tuple[int, str]:
        out, err = await asyncio.to_thread(self.process.communicate, timeout=50)
        assert not err, err
        return self.process.returncode, out.strip()


@contextmanager
def process(drain: float = 30.0) -> Iterator[Process]:
    name = type(asyncio.get_running_loop()).__module__
    loop = next((each for each in ("uvloop", "reactor") if each in name), "asyncio")
    running = Process(drain, loop)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")


@posix
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
async def test_a_signal_lets_a_call_an_upload_and_a_stream_end(number: str) -> None:
    import signal

    gate = asyncio.Event()

    async def parts():  # type: ignore[no-untyped-def]
        yield b"one"
        await gate.wait()
        yield b"two"

    with process() as there:
        async with tofu.Client(await there.line()) as client:
            call = asyncio.create_task(client.call("wait", 1.0))
            assert await there.line() == "waiting"
            upload = asyncio.create_task(client.upload("store", parts(), result=int))
            assert await there.line() == "waiting"
            stream = client.stream("watch", 1.0, item=int)
            assert await anext(stream) == 1
            assert await there.line() == "waiting"
            there.process.send_signal(getattr(signal, number))
            gate.set()
            assert await call == "done"
            assert await upload == 6
            assert [item async for item in stream] == [2]
            assert await there.ended() == (0, "ended")


async def test_a_second_stop_does_not_wait_for_peers_to_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tofu_aio.service.service.LEAVING_TIME", 1000.0)
    service = tofu.Service()
    begun = asyncio.Event()

    @service.handler("wait")
    async def wait() -> None:
        begun.set()
        await asyncio.sleep(1000)

    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(service.serve, "tcp://127.0.0.1:0")
        async with tofu.Client(address) as client:
            call = asyncio.create_task(client.call("wait"))
            await begun.wait()
            service.stop()
            assert await client.call("tofu.names")  # peers may still call
            service.stop()
            assert isinstance(await failure_of(call), tofu.TofuError)


@posix
async def test_a_second_signal_ends_it_at_once() -> None:
    with process() as there:
        async with tofu.Client(await there.line()) as client:
            call = asyncio.create_task(client.call("wait", 1000.0))
            assert await there.line() == "waiting"
            there.process.terminate()
            while (await client.call("tofu.names")) is None:  # it still serves
                pass
            there.process.terminate()
            assert await there.ended() == (0, "ended")
            assert isinstance(await failure_of(call), tofu.TofuError)


@posix
async def test_a_signal_ends_it_in_time_whatever_its_handlers_do() -> None:
    with process(drain=0.5) as there:
        async with tofu.Client(await there.line()) as client:
            call = asyncio.create_task(client.call("wait", 1000.0))
            assert await there.line() == "waiting"
            there.process.terminate()
            assert await there.ended() == (0, "ended")
            assert isinstance(await failure_of(call), tofu.TofuError)


@posix
async def test_a_signal_beside_an_idle_peer_of_plain_tofu() -> None:
    with process() as there:
        address = tofu.parse_address(await there.line())
        with await RawPeer.introduced(address) as peer:
            there.process.terminate()
            assert (await peer.message()).op_code in {OpCode.BYE_REQUEST, OpCode.BYE_SIGNAL}
            peer.close()
            assert await there.ended() == (0, "ended")


@posix
async def test_a_signal_beside_nobody() -> None:
    with process() as there:
        await there.line()
        there.process.terminate()
        assert await there.ended() == (0, "ended")

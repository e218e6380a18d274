"""Calls made by hand, as a peer of plain tofu or a hostile one makes them."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, frame, turns, until
from tests.service.serving import Job, answer_to, call_frame, served
from tests.service.test_service import Gate, sample
from tofu_aio import OpCode, Status
from tofu_aio.protocol.op_code import MORE_BIT
from tofu_aio.service.session import AT_ONCE

JSON_TYPE = "application/json"


async def test_a_peer_of_plain_tofu_calls_with_the_call_header_alone(
    transport_address: str,
) -> None:
    async with served(sample(), transport_address) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            for body, headers, name in (
                (b'{"width": 3}', {}, "resize"),
                (b"\x00\xff", {}, "raw"),
                (b"", {}, "optional"),
            ):
                answer = await answer_to(peer, call_frame(name, body, **headers))
                assert (answer.op_code, answer.message_id) == (OpCode.RESPONSE, 7)
                assert answer.status is Status.SUCCESS, answer.body
            assert answer.body == b"7"
            assert answer.headers["content-type"] == JSON_TYPE


async def test_a_peer_of_plain_tofu_reads_a_stream_as_parts() -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(call_frame("watch", b"2"))
            first = await peer.message()
            assert (first.more, first.headers["stream"]) == (True, "1")
            assert first.headers["content-type"] == JSON_TYPE
            assert first.body == b'{"width":0,"name":""}'
            parts = [await peer.message()]
            while parts[-1].more:
                parts.append(await peer.message())
            assert parts[-1].body == b""
            assert not parts[-1].status


async def test_a_peer_of_plain_tofu_sends_a_stream_as_parts() -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(call_frame("store", b"abc", more=True))
            await peer.send(frame(OpCode.REQUEST | MORE_BIT, b"de", message_id=7))
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"", message_id=7))
            assert answer.body == b"5"


async def test_a_long_payload_of_a_peer_of_plain_tofu_comes_in_parts() -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(call_frame("raw", b"a" * 60_000, more=True))
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"b" * 1000, message_id=7))
            assert answer.body == b"a" * 60_000 + b"b" * 1000


async def test_a_handler_of_messages_gets_the_message() -> None:
    service = tofu.Service()

    @service.handler("message")
    async def handle(message: tofu.Message) -> str:
        await asyncio.sleep(0)
        return f"{message.headers['extra']} {message.body!r}"

    async with served(service) as there, there.client() as client:
        headers = {"extra": "e"}
        assert await client.call("message", b"body", result=str, headers=headers) == "e b'body'"
        assert await client.call("message", result=str, headers=headers) == "e b''"
        large = b"x" * 200_000
        assert await client.call("message", large, headers=headers) == f"e {large!r}"
        with await RawPeer.introduced(there.listener.address) as peer:
            answer = await answer_to(peer, call_frame("message", b"body", extra="e"))
            assert answer.body == b"\"e b'body'\""
            await peer.send(call_frame("message", b"first", extra="e", more=True))
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"second", message_id=7))
            assert b"firstsecond" in answer.body


async def test_a_handler_may_answer_its_message_itself(errors: list[logging.LogRecord]) -> None:
    """Its result is then one answer too many, which is a fault of the handler's; nobody hangs."""
    service = tofu.Service()

    @service.handler("message")
    async def handle(message: tofu.Message, channel: tofu.Channel) -> None:
        await channel.reply(message, b"own")

    async with served(service) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            answer = await answer_to(peer, call_frame("message"))
            assert answer.body == b"own"


# --- nonsense -----------------------------------------------------------------------------------

BAD = [
    ("nix", b"", {}, "unimplemented", "there is no handler 'nix'"),
    ("", b"", {}, "unimplemented", "no header 'call'"),
    ("x" * 5000, b"", {}, "unimplemented", "there is no handler 'xxx"),
    ("resize", b"", {}, "invalid_argument", "the payload is empty"),
    ("resize", b"", {"content_type": JSON_TYPE}, "invalid_argument", "truncated"),
    ("resize", b"?no", {}, "invalid_argument", "malformed"),
    ("resize", b'{"width": "x"}', {}, "invalid_argument", "$.width"),
    ("resize", b"[" * 50_000, {}, "invalid_argument", ""),
    ("echo", b"[" * 50_000, {}, "invalid_argument", "nested too deeply"),
    ("resize", b"{}", {"content_type": "text/html"}, "invalid_argument", "'text/html'"),
    ("resize", b"{}", {"content_type": "application/octet-stream"}, "invalid_argument", "not Job"),
    ("nothing", b"{}", {}, "invalid_argument", "takes no payload"),
    ("resize", b"{}", {"timeout_ms": "soon"}, "invalid_argument", "timeout-ms is 'soon'"),
    ("resize", b"{}", {"timeout_ms": "-5"}, "invalid_argument", "timeout-ms is '-5'"),
    ("resize", b"{}", {"timeout_ms": "1.5"}, "invalid_argument", "timeout-ms is '1.5'"),
    ("resize", b"{}", {"timeout_ms": "9" * 40}, "invalid_argument", "timeout-ms is '999"),
    ("resize", b"{}", {"timeout_ms": ""}, "invalid_argument", "timeout-ms is ''"),
    ("watch", b"x", {}, "invalid_argument", "malformed"),
    ("watch", b"{}", {"content_type": "text/html"}, "invalid_argument", "'text/html'"),
    ("watch", b"", {}, "invalid_argument", "the payload is empty"),
    ("watch", b"1", {"timeout_ms": "x"}, "invalid_argument", "timeout-ms"),
    ("store", b"", {"content_type": "text/html"}, "invalid_argument", "'text/html'"),
    ("sum", b"{}", {}, "invalid_argument", "width"),
]


@pytest.mark.parametrize("more", [False, True], ids=["whole", "in parts"])
async def test_nonsense_is_answered_with_what_is_wrong(more: bool) -> None:
    service = sample()
    async with served(service) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            for number, (name, body, headers, code, said) in enumerate(BAD, 2):
                data = call_frame(name, body, message_id=number, more=more, **headers)
                if more:
                    data += frame(OpCode.REQUEST, b"", message_id=number)
                answer = await answer_to(peer, data)
                shown = (name[:10], answer.body[:300])
                assert answer.message_id == number, shown
                assert answer.headers.get("code") == code, shown
                assert said in answer.body.decode(), shown
                assert len(answer.body) < 1000
                assert answer.status is not Status.SUCCESS
                assert not answer.more
            answer = await answer_to(peer, call_frame("optional", message_id=999))
            assert answer.body == b"7"


async def test_the_code_has_a_status_for_peers_that_read_no_headers() -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            answer = await answer_to(peer, call_frame("nix"))
            assert answer.status is Status.NOT_IMPLEMENTED_YET
            answer = await answer_to(peer, call_frame("resize", b"x"))
            assert answer.status is Status.INVALID_MESSAGE


async def test_bytes_that_are_no_text_in_headers_are_answered() -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            line = b"call: \xff\xfe\r\ncontent-type: \xff\r\n"
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"x", line, message_id=3))
            assert answer.headers["code"] == "unimplemented"
            line = b"call: resize\r\ncontent-type: \xff\r\n"
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"x", line, message_id=4))
            assert answer.headers["code"] == "invalid_argument"
            line = b"call: resize\r\ntimeout-ms: \xff\r\n"
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"x", line, message_id=5))
            assert answer.headers["code"] == "invalid_argument"


async def test_signals_and_stray_responses_are_dropped() -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            for op_code in (OpCode.SIGNAL, OpCode.RESPONSE):
                await peer.send(frame(op_code, b"x" * 1000, message_id=3) * 200)
            answer = await answer_to(peer, call_frame("optional"))
            assert answer.body == b"7"


@pytest.mark.parametrize(
    ("length", "rest", "said"),
    [
        ("99999999999999", b"", "announces a length"),
        ("-1", b"", "announces a length"),
        ("x", b"", "announces a length"),
        ("1", b"", "announces a length"),
        ("100", b"", "the stream ended in the middle of an item"),
        ("100", b"0", "the stream ended in the middle of an item"),
    ],
)
async def test_items_that_lie_about_their_length(length: str, rest: bytes, said: str) -> None:
    async with served(sample()) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            data = call_frame("sum", b'{"width":', more=True, content_type=JSON_TYPE, length=length)
            answer = await answer_to(peer, data + frame(OpCode.REQUEST, rest, message_id=7))
            assert answer.headers["code"] in {"invalid_argument", "invalid_body_len"}
            assert said in answer.body.decode()


async def test_a_message_id_that_is_used_twice_at_once_harms_no_other_channel() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client() as client:
        with await RawPeer.introduced(there.listener.address) as peer:
            for name in ("ticks", "ticks", "wait", "ticks", "wait"):
                await peer.send(call_frame(name, b"1"))
            await until(lambda: gate.running)
            assert await client.call("tofu.health") == {"status": "serving"}
        gate.open.set()


async def test_a_channel_with_many_calls_leaves_turns_to_other_tasks() -> None:
    """Handlers that wait for nothing end at once, and the next call may be here already."""
    service = tofu.Service()
    passed = calls = 0
    seen: list[int] = []

    @service.handler("count")
    async def count() -> None:
        nonlocal calls
        calls += 1
        seen.append(passed)

    async def others() -> None:
        nonlocal passed
        while True:
            await asyncio.sleep(0)
            passed += 1

    async with served(service, pool_messages=1024) as there, asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(others())
        with await RawPeer.introduced(there.listener.address) as peer:
            frames = (call_frame("count", message_id=number) for number in range(1, 401))
            await peer.send(b"".join(frames))
            await until(lambda: calls == 400)
        ticking.cancel()
    assert max(Counter(seen).values()) <= 2 * AT_ONCE


# --- too long -----------------------------------------------------------------------------------


async def test_what_is_longer_than_max_body_is_refused_with_a_code() -> None:
    async with (
        served(sample(), limits={"max_body": 100_000}) as there,
        there.client() as client,
    ):
        too_long = b"x" * 100_001

        async def code_of(awaitable: Any) -> str:
            with pytest.raises(tofu.ServiceError) as caught:
                await awaitable
            return caught.value.code

        assert await code_of(client.call("raw", too_long)) == "invalid_body_len"
        job = Job(1, "x" * 100_001)
        assert await code_of(client.call("resize", job)) == "invalid_body_len"
        assert await code_of(client.upload("sum", [Job(1), job], result=int)) == "invalid_body_len"
        assert await code_of(anext(client.stream("watch", job, item=int))) == "invalid_body_len"
        # Items of bytes are parts, and none is too long.
        assert await client.upload("store", [too_long], result=int) == 100_001
        # A call whose payload comes as a stream though the handler takes a whole one.
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(call_frame("raw", b"x" * 60_000, more=True))
            await peer.send(frame(OpCode.REQUEST | MORE_BIT, b"x" * 60_000, message_id=7))
            answer = await answer_to(peer, frame(OpCode.REQUEST, b"", message_id=7))
            assert answer.headers["code"] == "invalid_body_len"
        assert await client.call("raw", b"x", result=bytes) == b"x"


async def test_results_that_are_too_long_for_the_client() -> None:
    async with served(sample()) as there, there.client(max_body=100_000) as client:
        with pytest.raises(tofu.InvalidBodyLen):
            await client.call("echo", "x" * 100_001)
        with pytest.raises(tofu.InvalidBodyLen):
            async for _ in client.stream("watch", 5, item=Job):
                pass
        assert await client.call("echo", "x") == "x"


# --- floods -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tofu.health", "nix"])
async def test_a_caller_that_reads_no_answers_does_not_make_tasks_without_end(name: str) -> None:
    """Answers wait for room; then so do its further calls, and the memory for them is bounded."""
    service = sample()
    async with served(service, pool_messages=8) as there:
        before = len(asyncio.all_tasks())
        most = 0
        with await RawPeer.introduced(there.listener.address) as peer:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            calls = b"".join(
                call_frame(name, b"", message_id=number, content_type="x/" + "y" * 500)
                for number in range(2, 1000)
            )

            async def flood() -> None:
                for _ in range(4):
                    await peer._loop.sock_sendall(peer.sock, calls)

            flooding = asyncio.create_task(flood())
            calm = 0
            counted = -1
            while calm < 200 and not flooding.done():
                await asyncio.sleep(0 if calm < 100 else 0.001)
                now = service.counts.running + sum(service.counts.refusals.values())
                now += sum(counts.calls for counts in service.counts.ended_calls.values())
                calm, counted = (calm + 1, now) if now == counted else (0, now)
                most = max(most, len(asyncio.all_tasks()) - before)
            flooding.cancel()
            await asyncio.wait([flooding])
        assert most < 600


async def test_a_slow_reader_of_an_endless_stream_slows_it_down(transport_address: str) -> None:
    service = tofu.Service()
    sent = 0

    @service.handler("endless")
    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            yield bytes(10_000)
            sent += 1

    async with served(service, transport_address) as there, there.client() as client:
        async with asyncio.timeout(30):
            stream = client.stream("endless", item=bytes)
            for _ in range(3):
                assert len(await anext(stream)) == 10_000
            calm, before = 0, -1
            while calm < 100:
                await asyncio.sleep(0 if calm < 50 else 0.001)
                calm, before = (calm + 1, sent) if sent == before else (0, sent)
            stopped_at = sent
            assert stopped_at < 2000  # the buffers of both engines and the system
            # A call passes it on a channel of its own.
            assert await client.call("tofu.health") == {"status": "serving"}
            assert sent < 2000
            for _ in range(sent + 10):
                await anext(stream)
            assert sent > stopped_at
            await stream.aclose()


@pytest.fixture
async def without_debug() -> AsyncIterator[None]:
    """Each task and future costs ten times as much in asyncio's debug mode."""
    asyncio.get_running_loop().set_debug(False)
    yield
    asyncio.get_running_loop().set_debug(True)


async def test_ten_thousand_calls_at_once(without_debug: None) -> None:
    service = sample()
    async with served(service, pool_messages=512) as there, there.client() as client:
        calls = [client.call("echo", number, result=int) for number in range(10_000)]
        assert await asyncio.gather(*calls) == list(range(10_000))


async def test_ten_thousand_calls_at_once_to_one_slot_from_many_channels(
    without_debug: None,
) -> None:
    service = tofu.Service()

    @service.handler("slow")
    async def slow(number: int) -> int:
        await turns(number % 3)
        return number

    each = 50 if sys.platform == "win32" else 500  # under Wine each takes 20 times as long
    async with served(service, limits={"concurrency": 1}) as there:
        clients = [there.client() for _ in range(20)]
        calls = [
            client.call("slow", number, result=int, timeout=100)
            for client in clients
            for number in range(each)
        ]
        assert await asyncio.gather(*calls) == list(range(each)) * 20
        await asyncio.gather(*(client.aclose() for client in clients))

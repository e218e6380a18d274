"""Clients: addresses that work and that do not, retries, streams, deadlines, closing."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, RawServer, frame, turns, until
from tests.service.serving import Job, call_frame, failure_of, served
from tests.service.test_callers import Work
from tests.service.test_service import Gate, items, sample
from tofu_aio import OpCode, Status
from tofu_aio.service.breaker import FAILURES
from tofu_aio.service.call import inherited_deadline, left

FAST = tofu.Backoff(initial=0.001, maximum=0.01)


def dead_address() -> str:
    """An address that nobody listens on."""
    with RawServer() as server:
        return str(server.address)


async def accept_by_hand(server: RawServer) -> RawPeer:
    """Accept a client as a service that answers by hand."""
    peer = await server.accept()
    hello = await peer.message()
    await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
    return peer


def answer(request: tofu.Message, body: bytes = b"1", **options: Any) -> bytes:
    headers = b"content-type: application/json\r\n"
    return frame(OpCode.RESPONSE, body, headers, message_id=request.message_id, **options)


async def raw_request(peer: RawPeer) -> tofu.Message:
    """The next call, without the notices of heartbeats and cancellations."""
    while True:
        message = await peer.message()
        if message.op_code is OpCode.REQUEST and message.headers.get("call"):
            return message


# --- what is retried ----------------------------------------------------------------------------


async def test_a_call_that_may_have_been_carried_out_is_not_repeated() -> None:
    with RawServer() as server:
        async with tofu.Client(server.address, backoff=FAST) as client:
            call = asyncio.create_task(client.call("work", timeout=20))
            with await accept_by_hand(server) as peer:
                await raw_request(peer)
                await peer.reset()
                assert isinstance(await failure_of(call), tofu.PeerDisconnected)
                assert not call.cancelled()


async def test_an_idempotent_one_is_repeated() -> None:
    with RawServer() as server:
        async with tofu.Client(server.address, backoff=FAST) as client:
            call = asyncio.create_task(client.call("work", idempotent=True, timeout=20))
            for _ in range(2):
                with await accept_by_hand(server) as peer:
                    await raw_request(peer)
                    await peer.reset()
            with await accept_by_hand(server) as peer:
                await peer.send(answer(await raw_request(peer)))
                assert await call == 1


async def test_it_is_tried_no_more_than_attempts_say() -> None:
    with RawServer() as server:
        async with tofu.Client(server.address, backoff=FAST, attempts=2) as client:
            call = asyncio.create_task(client.call("work", idempotent=True, timeout=20))
            for _ in range(2):
                with await accept_by_hand(server) as peer:
                    await raw_request(peer)
                    await peer.reset()
            assert isinstance(await failure_of(call), tofu.PeerDisconnected)


async def test_what_a_service_did_not_begin_is_repeated_within_a_budget() -> None:
    service = tofu.Service()
    asked = 0

    @service.handler("busy")
    async def busy() -> int:
        nonlocal asked
        asked += 1
        raise tofu.ServiceError("unavailable", "shutting down")

    async with served(service) as there, there.client() as client:
        for _ in range(20):
            error = await failure_of(client.call("busy"))
            assert isinstance(error, tofu.ServiceError)
            assert error.code == "unavailable"
    assert asked == 20 + 10


async def test_a_dead_address_costs_nothing_while_another_works(transport_address: str) -> None:
    """A hundred calls at once: half of them find the dead one, and none may fail."""
    async with (
        served(sample(), transport_address) as there,
        tofu.Client(dead_address(), there.address) as client,
    ):
        calls = (client.call("echo", number, result=int) for number in range(100))
        assert await asyncio.gather(*calls) == list(range(100))
        found = client.stream("watch", 2, item=Job)
        assert [job.width async for job in found] == [0, 1]


async def test_a_call_tries_all_addresses_before_it_fails() -> None:
    """However many cannot be connected: only what was sent counts as an attempt."""
    dead = [dead_address() for _ in range(8)]
    async with served(sample()) as there:
        for _ in range(4):
            async with tofu.Client(*dead, there.address, attempts=1) as client:
                assert await client.call("echo", 1, result=int) == 1
            async with tofu.Client(*dead, there.address, attempts=1) as client:
                found = client.stream("watch", 2, item=Job)
                assert [job.width async for job in found] == [0, 1]


async def test_clients_that_begin_together_do_not_all_call_the_same_instance() -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(served(sample())) for _ in range(5)]
        addresses = [server.address for server in servers]
        clients = [await stack.enter_async_context(tofu.Client(*addresses)) for _ in range(20)]
        await asyncio.gather(*(client.call("echo", 1) for client in clients))
        counts = [server.service.counts.ended_calls.get(("echo", "ok")) for server in servers]
        assert sum(count is not None for count in counts) > 1  # all on one: 1 in 5**19


async def test_no_address_that_works_is_a_clear_error() -> None:
    async with tofu.Client(dead_address(), dead_address(), backoff=FAST) as client:
        for _ in range(5):
            error = await failure_of(client.call("echo", 1))
            assert isinstance(error, tofu.ConnectFailed)
            assert "127.0.0.1" in str(error)
        error = await failure_of(anext(client.stream("watch", 1, item=Job)))
        assert isinstance(error, tofu.ConnectFailed)


async def test_a_lost_channel_with_many_calls_does_not_close_the_address_for_long() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client() as client:
        calls = [asyncio.create_task(client.call("wait", n)) for n in range(100)]
        await until(lambda: gate.running == 100)
        gate.service._abort()
        for call in calls:
            assert isinstance(await failure_of(call), tofu.PeerDisconnected)
        gate.open.set()
        assert await client.call("wait", 1, result=int) == 1


async def test_time_outs_without_time_do_not_close_an_address() -> None:
    async with served(sample()) as there, there.client() as client:
        await client.call("echo", 1)
        for _ in range(20):
            assert isinstance(await failure_of(client.call("echo", 1, timeout=0)), TimeoutError)
        assert client._endpoints._all[0].breaker.until == -math.inf
        assert await client.call("echo", 1) == 1


async def test_an_address_that_drains_is_left_for_another() -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(sample()))
        second = await stack.enter_async_context(served(sample()))
        client = await stack.enter_async_context(tofu.Client(first.address, second.address))
        await asyncio.gather(*(client.call("echo", n) for n in range(10)))
        draining = asyncio.create_task(first.listener.drain(10))
        for _ in range(20):
            answers = await asyncio.gather(*(client.call("echo", n) for n in range(20)))
            assert answers == list(range(20))
        await draining
        assert [job.width async for job in client.stream("watch", 2, item=Job)] == [0, 1]


async def test_a_call_under_way_on_a_draining_channel_is_answered() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client() as client:
        call = asyncio.create_task(client.call("wait", 1, result=int))
        stream = client.stream("ticks", 1, item=int)
        assert await anext(stream) == 1
        await until(lambda: gate.running == 2)
        draining = asyncio.create_task(there.listener.drain(20))
        await turns(20)
        gate.open.set()
        assert await call == 1
        assert [item async for item in stream] == []
        await draining


async def test_a_call_that_is_sent_on_a_draining_channel_is_not_repeated() -> None:
    """The channel may have begun to drain before the call that has waited for it has its turn."""
    with RawServer() as server:
        async with tofu.Client(server.address, backoff=FAST) as client:
            (endpoint,) = client._endpoints._all
            original = endpoint.open

            async def open_late() -> Any:
                link = await original()
                link.channel.drain()
                return link

            endpoint.open = open_late  # type: ignore[method-assign]
            call = asyncio.create_task(client.call("work", timeout=20))
            with await accept_by_hand(server) as peer:
                await raw_request(peer)
                await peer.reset()
                assert isinstance(await failure_of(call), tofu.PeerDisconnected)


# --- streams ------------------------------------------------------------------------------------


async def test_streams_that_end_share_a_channel_and_others_do_not() -> None:
    service = sample()
    opened: list[int] = []
    original = service.handle

    async def handle(channel: tofu.Channel) -> None:
        opened.append(channel.number)
        await original(channel)

    service.handle = handle  # type: ignore[method-assign]
    async with served(service) as there, there.client() as client:
        for _ in range(5):
            assert [job.width async for job in client.stream("watch", 2, item=Job)] == [0, 1]
            assert await client.upload("store", [b"a"], result=int) == 1
        assert len(opened) == 1
        stream = client.stream("watch", 5, item=Job)
        await anext(stream)
        await stream.aclose()
        assert await client.upload("store", [b"a"], result=int) == 1
        assert len(opened) == 2
        await failure_of(client.upload("nix", [b"a"], result=int))
        assert await client.upload("store", [b"a"], result=int) == 1
        assert len(opened) == 3


async def test_one_stream_too_many_waits_no_longer_than_its_timeout() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client(streams=1) as client:
        first = client.stream("ticks", 1, item=int)
        assert await anext(first) == 1
        second = failure_of(anext(client.stream("ticks", 2, item=int, timeout=0.01)))
        assert isinstance(await asyncio.wait_for(second, 20), TimeoutError)
        third = failure_of(client.upload("ticks", [1], result=int, timeout=0.01))
        assert isinstance(await asyncio.wait_for(third, 20), TimeoutError)
        last = client.stream("ticks", 3, item=int)
        waiting = asyncio.ensure_future(anext(last))
        await turns(5)
        await first.aclose()
        assert await waiting == 3
        await last.aclose()
        gate.open.set()


class Broken(Exception):
    """Of a program's own."""


@pytest.mark.parametrize(
    "make",
    [
        partial(Broken, "a bug"),
        partial(tofu.ServiceError, "moved", "of another service"),
        partial(tofu.PeerDisconnected, "of another channel"),
        partial(tofu.ExchangeFailed, "of another channel"),
        partial(TimeoutError, "of another service"),
    ],
    ids=lambda make: make.func.__name__,
)
async def test_parts_that_fail_break_the_upload_off_on_both_sides(
    make: partial[Exception],
) -> None:
    error = make()
    work = Work()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        raise error

    async with served(work.service) as there, there.client() as client:
        upload = failure_of(client.upload("store", parts(), result=int))
        assert await asyncio.wait_for(upload, 20) is error
        # On Python 3.11 it is cancelled before it begins, if all of this arrives at once.
        await until(lambda: not work.service.handlers["store"].running)
        stream = client.stream("store", parts(), item=int)
        assert await asyncio.wait_for(failure_of(anext(stream)), 20) is error


@pytest.mark.parametrize("parts", [5, None, b"bytes", "text", {"a": 1}], ids=str)
async def test_what_are_no_parts_is_named(parts: Any) -> None:
    async with served(sample()) as there, there.client() as client:
        error = await asyncio.wait_for(failure_of(client.upload("store", parts, result=int)), 20)
        assert isinstance(error, TypeError)
        assert "iterable of items" in str(error)


async def test_headers_that_leave_no_room_for_those_of_an_item_are_refused() -> None:
    """They fit into a message, and with those that the first item adds they do not."""
    async with served(sample()) as there, there.client() as client:
        headers = {"name": "x" * 65_500}
        upload = failure_of(client.upload("store", [b"part"], result=int, headers=headers))
        assert isinstance(await asyncio.wait_for(upload, 20), tofu.InvalidHeadersLen)
        assert await client.upload("store", [b"part"], result=int) == 4


async def test_an_item_that_cannot_be_encoded_breaks_the_upload_off() -> None:
    async with served(sample()) as there, there.client() as client:
        error = await failure_of(client.upload("sum", [Job(1), object()], result=int))
        assert isinstance(error, TypeError)
        error = await failure_of(client.upload("store", [b"a", "text"], result=int))
        assert isinstance(error, TypeError)


async def test_a_generator_of_parts_is_closed_with_its_upload() -> None:
    closed = False

    async def parts() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield bytes(60_000)
        finally:
            closed = True

    async with served(Work().service) as there, there.client() as client:
        with pytest.raises(tofu.ServiceError):
            await client.upload("nix", parts(), result=int)
        assert closed


async def test_a_peer_that_says_bye_within_a_stream_has_not_ended_it() -> None:
    with RawServer() as server:
        async with tofu.Client(server.address) as client:
            stream = client.stream("watch", item=int)
            first = asyncio.ensure_future(anext(stream))
            with await accept_by_hand(server) as peer:
                request = await raw_request(peer)
                headers = b"stream: 1\r\ncontent-type: application/json\r\n"
                more = OpCode.RESPONSE | 0x20
                await peer.send(frame(more, b"1", headers, message_id=request.message_id))
                assert await first == 1
                await peer.send(frame(OpCode.BYE_REQUEST, message_id=9))
                error = await failure_of(anext(stream))
                assert isinstance(error, tofu.TofuError), error
                peer.close()


async def test_results_that_have_another_type_name_the_field() -> None:
    async with served(sample()) as there, there.client() as client:
        for awaitable in (
            client.call("echo", {"width": "x"}, result=Job),
            anext(client.stream("echo", {"width": "x"}, item=Job)),
        ):
            error = await failure_of(awaitable)
            assert isinstance(error, tofu.InvalidMessage)
            assert "'echo'" in str(error)
            assert "$.width" in str(error)
        with pytest.raises(TypeError, match=r"use client\.stream"):
            await client.call("watch", 1)


# --- deadlines ----------------------------------------------------------------------------------


async def test_nested_calls_inherit_the_deadline() -> None:
    inner, outer = tofu.Service(), tofu.Service()
    told: list[float | None] = []

    @inner.handler("left")
    async def tell() -> None:
        told.append(left(inherited_deadline()))

    async with served(inner) as inside, inside.client() as to_inner:

        @outer.handler("ask")
        async def ask(timeout: float | None) -> None:
            await to_inner.call("left", timeout=timeout)
            async for _ in to_inner.stream("left", item=type(None), timeout=timeout):
                pass

        async with served(outer) as outside, outside.client() as client:
            await client.call("ask", None, timeout=100)
            assert all(each is not None and 90 < each <= 100 for each in told), told
            await client.call("ask", 50, timeout=100)
            assert all(each is not None and 40 < each <= 50 for each in told[2:]), told
            await client.call("ask", 500, timeout=100)
            assert all(each is not None and 90 < each <= 100 for each in told[4:]), told
            await client.call("ask", None)
            assert told[6:] == [None, None]


async def test_what_a_handler_has_left_says_nothing_about_the_service_that_it_calls() -> None:
    """Time-outs that a nested call inherits do not close the address; those of its own do."""
    gate, outer = Gate(), tofu.Service()
    nested: list[asyncio.Task[object]] = []
    async with served(gate.service) as inside, inside.client(backoff=FAST) as to_inner:

        @outer.handler("ask")
        async def ask(timeout: float | None) -> None:
            # In a task of its own, which is not cancelled when the time of the handler is over.
            nested.append(asyncio.create_task(to_inner.call("wait", 1, timeout=timeout)))
            await asyncio.wait(nested[-1:])

        async with served(outer) as outside, outside.client() as client:
            breaker = to_inner._endpoints._all[0].breaker
            await to_inner.call("tofu.names")  # connected
            calls = [client.call("ask", None, timeout=0.3) for _ in range(2 * FAILURES)]
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, TimeoutError)
            for task in nested:
                assert isinstance(await failure_of(task), TimeoutError)
            assert len(nested) == 2 * FAILURES
            assert breaker.closed
            for _ in range(FAILURES):
                await client.call("ask", 0.01, timeout=100)
                await failure_of(nested[-1])
            assert not breaker.closed
        gate.open.set()


async def test_the_error_of_a_lost_channel_names_each_call() -> None:
    gate = Gate()
    async with served(gate.service) as there, there.client() as client:
        calls = [asyncio.create_task(client.call("wait", n)) for n in range(3)]
        stream = asyncio.create_task(anext(client.stream("wait", 4, item=int)))
        await until(lambda: gate.running == 4)
        gate.service._abort()
        for call in (*calls, stream):
            error = await failure_of(call)
            assert isinstance(error, tofu.PeerDisconnected)
            assert error.__notes__ == ["in the call of 'wait'"]


async def test_deadline_0_and_nonsense() -> None:
    async with served(sample()) as there, there.client() as client:
        assert await client.call("echo", 1, timeout=math.inf) == 1
        assert await client.call("echo", 1, timeout=1e9) == 1
        streamed = client.stream("watch", 1, item=Job, timeout=math.inf)
        assert [job.width async for job in streamed] == [0]
        for awaitable in (
            client.call("echo", 1, timeout=0),
            client.upload("store", [b"a"], result=int, timeout=0),
            anext(client.stream("watch", 1, item=Job, timeout=0)),
        ):
            error = await failure_of(awaitable)
            assert isinstance(error, TimeoutError)
            assert str(error)
        for wrong in (-1, math.nan, "1", True):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                await client.call("echo", 1, timeout=wrong)  # type: ignore[arg-type]


async def test_the_services_own_time_out_is_one_here() -> None:
    work = Work()
    async with served(work.service) as there:
        with await RawPeer.introduced(there.listener.address) as peer:
            await peer.send(call_frame("hang", b"1", timeout_ms="1"))
            told = await peer.message()
            assert told.headers["code"] == "deadline_exceeded"
            assert told.status is Status.PROCESSING_FAILED


# --- life ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((), {}, "needs an address"),
        (("nonsense",), {}, "nonsense"),
        (("tcp://127.0.0.1:1",), {"attempts": 0}, "attempts is 0"),
        (("tcp://127.0.0.1:1",), {"streams": 0}, "streams is 0"),
        (("tcp://127.0.0.1:1",), {"call_timeout": -1}, "call_timeout is -1"),
        (("tcp://127.0.0.1:1",), {"codec": "json"}, "codec is 'json'"),
        (("tcp://127.0.0.1:1",), {"no_such": 1}, "no_such"),
    ],
    ids=str,
)
def test_arguments_without_meaning_are_named(
    arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises((TypeError, ValueError, tofu.InvalidAddress), match=said):
        tofu.Client(*arguments, **options)


async def test_closing_before_the_first_use_and_twice() -> None:
    client = tofu.Client("tcp://127.0.0.1:1")
    await client.aclose()
    await client.aclose()
    for awaitable in (
        client.call("echo"),
        client.upload("store", [], result=int),
        anext(client.stream("watch", item=int)),
    ):
        error = await failure_of(awaitable)
        assert isinstance(error, tofu.ChannelClosed)
        assert str(error) == "the client was closed"


@pytest.mark.parametrize("own_group", [True, False])
async def test_closing_fails_what_is_under_way(own_group: bool, group: tofu.ChannelGroup) -> None:
    work = Work()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.get_running_loop().create_future()

    async with served(work.service) as there:
        options = {"group": group} if own_group else {}
        client = there.client(**options)
        stream = client.stream("silent", 1, item=bytes)
        assert await anext(stream) == b"one"
        tasks = [
            asyncio.ensure_future(each)
            for each in (
                client.call("hang", 1),
                client.upload("store", parts(), result=int),
                anext(stream),
            )
        ]
        await until(lambda: work.started == 3)
        await asyncio.gather(client.aclose(), client.aclose())
        for task in tasks:
            error = await failure_of(task)
            assert isinstance(error, tofu.TofuError), error
        await until(lambda: len(work.ended) == 3)


@pytest.mark.parametrize("own_group", [True, False])
async def test_closing_while_it_connects_is_no_cancellation(
    own_group: bool, group: tofu.ChannelGroup
) -> None:
    with RawServer() as server:
        client = tofu.Client(server.address, **({"group": group} if own_group else {}))
        tasks = [
            asyncio.ensure_future(each)
            for each in (
                client.call("hang", 1),
                client.call("hang", 1, timeout=20),
                client.upload("store", [b"a"], result=int),
                anext(client.stream("silent", 1, item=bytes)),
            )
        ]
        peers = [await server.accept() for _ in range(3)]
        await asyncio.wait_for(client.aclose(), 20)
        for peer in peers:
            peer.close()
        for task in tasks:
            error = await asyncio.wait_for(failure_of(task), 20)
            assert isinstance(error, tofu.TofuError), error


async def test_closing_while_it_waits_for_an_address_is_an_error_too() -> None:
    backoff = tofu.Backoff(initial=0.5, random=lambda low, high: high)
    client = tofu.Client(dead_address(), backoff=backoff)
    call = asyncio.create_task(client.call("echo"))
    await until(lambda: client._endpoints._all[0].breaker.reason)
    await client.aclose()
    assert isinstance(await failure_of(call), tofu.ChannelClosed)


async def test_cancelling_the_close_leaves_nothing() -> None:
    async with served(sample()) as there:
        client = there.client()
        await client.call("echo", 1)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await client.aclose()


def test_a_client_may_be_used_on_one_loop_after_another() -> None:
    """If it was closed in between it says so; a new one does what is needed."""
    if sys.platform == "win32":
        pytest.skip("another loop")
    kept: list[tofu.Client] = []

    async def use() -> None:
        async with served(sample()) as there:
            client = there.client()
            kept.append(client)
            calls = (client.call("echo", number) for number in range(10))
            assert await asyncio.gather(*calls) == list(range(10))
            streams = (anext(client.stream("watch", 1, item=Job)) for _ in range(3))
            await asyncio.gather(*streams)
            await client.aclose()

    async def use_again() -> None:
        assert isinstance(await failure_of(kept[0].call("echo")), tofu.ChannelClosed)

    asyncio.run(use())
    asyncio.run(use_again())
    asyncio.run(use())


async def test_a_program_s_own_channel_is_left_open() -> None:
    async with served(sample()) as there:
        async with there.group.connect(there.listener.address) as channel:
            async with tofu.Client(channel) as client:
                assert await client.call("echo", 1) == 1
                assert [job.width async for job in client.stream("watch", 2, item=Job)] == [0, 1]
            assert channel.state is tofu.State.OPEN
        client = tofu.Client(channel)
        assert isinstance(await failure_of(client.call("echo", 1)), tofu.ChannelClosed)
        await client.aclose()


async def test_uploads_and_streams_at_once_share_nothing() -> None:
    async with served(sample()) as there, there.client() as client:

        async def one(number: int) -> None:
            doubled = client.stream("double", items(*range(number, number + 5)), item=int)
            assert [n async for n in doubled] == [2 * n for n in range(number, number + 5)]
            assert await client.upload("sum", [Job(n) for n in range(number)], result=int) == sum(
                range(number)
            )

        await asyncio.gather(*(one(number) for number in range(30)))
        assert len(client._endpoints._all[0]._idle) <= 4


def test_a_program_that_leaves_with_streams_open_says_only_why() -> None:
    code = """
import asyncio
from collections.abc import AsyncIterator
import tofu_aio as tofu

service = tofu.Service()

@service.handler("endless")
async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(10_000)

async def main():
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(service.handle))
        async with tofu.Client(listener.address) as client:
            kept = [client.stream("endless", item=bytes) for _ in range(5)]
            for each in kept:
                await anext(each)
            raise SystemExit("the program's own reason")

asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stderr == "the program's own reason\n"
